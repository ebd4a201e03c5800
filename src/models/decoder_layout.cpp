#include "models/decoder_layout.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <utility>

#include "models/layout_estimates.h"
#include "models/unit_builder.h"
#include "strata/base/error.h"
#include "strata/formats/ds_config.h"

namespace strata::models {

namespace {

/// Appends a table of the vocabulary, whole or in tiles.
void add_table(std::vector<zero3::UnitLayout>& layouts, std::string_view name, bool has_bias,
               const DecoderShape& shape, const std::vector<std::string>& fp32_patterns,
               const std::optional<RowTiles>& tiles) {
  const auto add = [&](std::string unit_name, std::int64_t rows) {
    UnitBuilder unit(std::move(unit_name), fp32_patterns, shape.lora);
    unit.add("weight", {rows, shape.width});
    if (has_bias) unit.add("bias", {rows});
    layouts.push_back(unit.take());
  };
  if (!tiles) {
    add(std::string(name), shape.vocab_size);
    return;
  }
  for (std::int64_t tile = 0; tile < tiles->count(); ++tile) {
    add(tile_name(tile, std::string(name)), tiles->size(tile));
  }
}

/// Device bytes of the largest unit of blocks.
std::uint64_t block_bytes(const DecoderShape& shape, const std::vector<std::string>& patterns,
                          Precision precision) {
  std::uint64_t bytes = 0;
  for (std::int64_t i = 0; i < shape.layers; ++i) {
    bytes = std::max(bytes, device_bytes(shape.block(i, patterns), precision));
    if (shape.experts_of(i) == 0) continue;
    bytes = std::max(bytes, device_bytes(shape.experts->layout(i, 0, patterns), precision));
  }
  return bytes;
}

/// Experts of a block that so many tokens choose, on average and rounded up, where each chooses
/// among all alike.
std::int64_t chosen_experts(const ExpertsShape& experts, double tokens) {
  const auto count = static_cast<double>(experts.count);
  const double share = static_cast<double>(experts.per_token) / count;
  return static_cast<std::int64_t>(std::ceil(count * (1 - std::pow(1 - share, tokens))));
}

/// Blocks that have experts.
std::int64_t routed_blocks(const DecoderShape& shape) {
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < shape.layers; ++i) count += shape.experts_of(i) > 0 ? 1 : 0;
  return count;
}

}  // namespace

std::vector<zero3::UnitLayout> decoder_units(const DecoderShape& shape,
                                             const std::vector<std::string>& fp32_patterns,
                                             const ModelTiles& tiles) {
  std::vector<zero3::UnitLayout> layouts;
  add_table(layouts, shape.embedding, /*has_bias=*/false, shape, fp32_patterns, tiles.vocabulary);
  for (std::int64_t i = 0; i < shape.layers; ++i) {
    layouts.push_back(shape.block(i, fp32_patterns));
    for (std::int64_t expert = 0; expert < shape.experts_of(i); ++expert) {
      layouts.push_back(shape.experts->layout(i, expert, fp32_patterns));
    }
  }
  UnitBuilder norm(std::string(shape.norm), fp32_patterns, shape.lora);
  norm.add("weight", {shape.width});
  if (shape.norm_has_bias) norm.add("bias", {shape.width});
  layouts.push_back(norm.take());
  if (!shape.ties) {
    add_table(layouts, shape.head, shape.head_has_bias, shape, fp32_patterns, tiles.vocabulary);
  }
  return layouts;
}

ModelTiles decoder_tiles(const DecoderShape& shape, const formats::DsConfig& engine,
                         const zero3::PlanInput& input) {
  const std::vector<std::string> patterns = engine.fp32_patterns();
  const Precision precision = input.format.precision;
  const std::uint64_t block = block_bytes(shape, patterns, precision);
  const std::string weight = std::string(shape.embedding) + ".weight";
  // The vocabulary in tiles of at most so many bytes, or whole: it is no larger.
  const auto cut = [&](std::uint64_t bytes) {
    return ModelTiles{.vocabulary =
                          table_tiles(shape.vocab_size, shape.width,
                                      elements_within(bytes, weight, patterns, precision))};
  };
  if (const std::uint64_t bytes = engine.strata.tile_bytes.value_or(0); bytes > 0) {
    const auto fail = [&](const std::string& what, std::uint64_t least) {
      throw ConfigError(engine.name + ": strata.tile_bytes: " + what + " of a \"" +
                        std::string(shape.model_type) + "\" are not cut into tiles, and one has " +
                        std::to_string(least) + " bytes; give at least that" +
                        (shape.head_has_bias ? "" : ", and the vocabulary alone is cut"));
    };
    if (block > bytes) fail("blocks", block);
    if (!shape.head_has_bias) return cut(bytes);
    const std::uint64_t head = device_bytes(decoder_units(shape, patterns, {}).back(), precision);
    if (head > bytes) fail("tables of the vocabulary", head);
    return {};
  }
  const auto fits = [&](const ModelTiles& tiles) {
    return device_has_room(input, decoder_units(shape, patterns, tiles));
  };
  if (shape.head_has_bias || input.units_stay() || input.weights_stay() || fits({})) return {};
  const ModelTiles larger = cut(std::max(block, input.budgets.device / kTilesOfBudget));
  return fits(larger) ? larger : cut(block);
}

zero3::StepWork decoder_work(const DecoderShape& shape, const MicroBatch& micro_batch,
                             std::uint64_t micro_batches, bool recompute, const ModelTiles& tiles) {
  const auto width = static_cast<double>(shape.width);
  const double tokens = micro_batch.tokens();
  const double pairs = static_cast<double>(micro_batch.length) * shape.block_queries;
  const auto input_elements = static_cast<std::uint64_t>(tokens * width);

  zero3::StepWork work;
  work.micro_batches = micro_batches;
  work.loop = zero3::StepWork::Loop::kUnitByUnit;
  std::size_t unit = 0;
  const std::int64_t parts = tiles.vocabulary ? tiles.vocabulary->count() : 1;
  for (std::int64_t part = 0; part < parts; ++part) work.uses.push_back({.unit = unit++});
  for (std::int64_t i = 0; i < shape.layers; ++i) {
    const std::int64_t experts = shape.experts_of(i);
    const double matrices = experts > 0 ? shape.experts->block_matrices : shape.block_matrices;
    const double block = 2 * tokens * (matrices + pairs);
    work.uses.push_back({.unit = unit++,
                         .forward = block,
                         .backward = kBackwardPerForward * block,
                         .recompute = recompute ? block : 0,
                         .input_elements = input_elements});
    if (experts == 0) continue;
    const std::int64_t chosen = chosen_experts(*shape.experts, tokens);
    const double each =
        tokens * static_cast<double>(shape.experts->per_token) / static_cast<double>(chosen);
    const double forward = 2 * each * shape.experts->matrices;
    for (std::int64_t expert = 0; expert < chosen; ++expert) {
      work.uses.push_back({.unit = unit + static_cast<std::size_t>(expert),
                           .forward = forward,
                           .backward = kBackwardPerForward * forward,
                           .recompute = recompute ? forward : 0,
                           .input_elements = static_cast<std::uint64_t>(each * width)});
    }
    unit += static_cast<std::size_t>(experts);
  }
  work.uses.push_back({.unit = unit++, .input_elements = input_elements});  // the last norm
  if (shape.ties) unit = 0;
  for (std::int64_t part = 0; part < parts; ++part) {
    const std::int64_t rows = tiles.vocabulary ? tiles.vocabulary->size(part) : shape.vocab_size;
    const double head = 2 * tokens * static_cast<double>(rows) * width;
    work.uses.push_back({.unit = unit++,
                         .forward = head,
                         .backward = kBackwardPerForward * head,
                         .recompute = tiles.vocabulary ? head : 0});
  }
  return work;
}

std::uint64_t decoder_input_bytes(const DecoderShape& shape, const MicroBatch& micro_batch,
                                  std::uint64_t micro_batches, std::uint64_t number_bytes) {
  const double line = micro_batch.tokens() * static_cast<double>(shape.width);
  double lines = static_cast<double>(shape.layers + 1);
  if (shape.experts) {
    lines += static_cast<double>(routed_blocks(shape) * shape.experts->per_token);
  }
  return static_cast<std::uint64_t>(line * lines * static_cast<double>(micro_batches)) *
         number_bytes;
}

std::uint64_t decoder_activation_bytes(const DecoderShape& shape, double block_bytes,
                                       const MicroBatch& micro_batch, std::uint64_t micro_batches,
                                       std::uint64_t number_bytes, bool recompute,
                                       const ModelTiles& tiles) {
  const auto number = static_cast<double>(number_bytes);
  const auto all = static_cast<double>(micro_batches);
  const auto inputs =
      static_cast<double>(decoder_input_bytes(shape, micro_batch, micro_batches, number_bytes));
  const double blocks =
      recompute ? inputs + block_bytes : block_bytes * static_cast<double>(shape.layers) * all;
  const auto loss = static_cast<double>(
      loss_bytes(micro_batch, shape.vocab_size, shape.width, tiles.vocabulary, number_bytes));
  const std::uint64_t gradients =
      gradient_bytes(decoder_units(shape, {}, tiles), micro_batches, number_bytes);
  const double line = micro_batch.tokens() * static_cast<double>(shape.width);
  // What experts give, which their weights need in backward, and what blocks hand to them.
  const double routed =
      shape.experts ? line * number * all *
                          static_cast<double>(routed_blocks(shape) * (shape.experts->per_token + 2))
                    : 0;
  // What goes into the head, of all micro-batches; of tiles also the rows of the tokens, and the
  // gradient of what they take in fp32.
  const double head =
      line * number * all + (tiles.vocabulary ? line * (number * all + sizeof(float)) : 0);
  return static_cast<std::uint64_t>(blocks + loss + head + routed) + gradients;
}

}  // namespace strata::models
