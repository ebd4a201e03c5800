#include "strata/models/gpt2_layout.h"

#include <algorithm>
#include <utility>

#include "models/loss_chunks.h"
#include "models/unit_names.h"
#include "strata/formats/ds_config.h"
#include "strata/formats/name_pattern.h"

namespace strata::models {

namespace {

constexpr double kBackwardPerForward = 2;
constexpr double kKeptBytesOfBlock = 34;  // in 16 bits, for a token and an element of the width
// Tiles in a device budget, where other units are smaller: one in use, others that come and go.
constexpr std::uint64_t kTilesOfBudget = 4;

constexpr const char* kEmbedding = "wte.weight";
constexpr const char* kHead = "lm_head.weight";

/// A unit whose parameters are added as its module registers them.
class UnitBuilder {
 public:
  UnitBuilder(std::string name, const std::vector<std::string>& fp32_patterns)
      : fp32_patterns_(fp32_patterns) {
    unit_.name = std::move(name);
  }

  void add(std::string name, std::vector<std::int64_t> shape) {
    const bool fp32 = formats::matches_any_pattern(fp32_patterns_, unit_.full_name(name));
    unit_.add(std::move(name), std::move(shape), /*trainable=*/true, fp32);
  }
  void add_norm(const std::string& name, std::int64_t width) {
    add(name + ".weight", {width});
    add(name + ".bias", {width});
  }
  void add_linear(const std::string& name, std::int64_t in, std::int64_t out) {
    add(name + ".weight", {in, out});
    add(name + ".bias", {out});
  }
  [[nodiscard]] zero3::UnitLayout take() { return std::move(unit_); }

 private:
  const std::vector<std::string>& fp32_patterns_;
  zero3::UnitLayout unit_;
};

zero3::UnitLayout outer_layout(const Gpt2Config& config,
                               const std::vector<std::string>& fp32_patterns, bool has_vocabulary) {
  UnitBuilder outer(std::string(kOuterName), fp32_patterns);
  if (has_vocabulary) outer.add(kEmbedding, {config.vocab_size, config.n_embd});
  outer.add("wpe.weight", {config.n_positions, config.n_embd});
  outer.add_norm("ln_f", config.n_embd);
  if (has_vocabulary && !config.tie_word_embeddings) {
    outer.add(kHead, {config.vocab_size, config.n_embd});
  }
  return outer.take();
}

/// Appends the tiles of a table of the vocabulary.
void add_tiles(std::vector<zero3::UnitLayout>& layouts, const char* table, const Gpt2Config& config,
               const std::vector<std::string>& fp32_patterns, const RowTiles& tiles) {
  for (std::int64_t tile = 0; tile < tiles.count(); ++tile) {
    UnitBuilder unit(tile_name(tile, std::string(kOuterName)), fp32_patterns);
    unit.add(table, {tiles.size(tile), config.n_embd});
    layouts.push_back(unit.take());
  }
}

zero3::UnitLayout block_layout(const Gpt2Config& config, std::int64_t index,
                               const std::vector<std::string>& fp32_patterns) {
  UnitBuilder block(block_name(index), fp32_patterns);
  block.add_norm("ln_1", config.n_embd);
  block.add_linear("attn.c_attn", config.n_embd, 3 * config.n_embd);
  block.add_linear("attn.c_proj", config.n_embd, config.n_embd);
  block.add_norm("ln_2", config.n_embd);
  block.add_linear("mlp.c_fc", config.n_embd, config.inner());
  block.add_linear("mlp.c_proj", config.inner(), config.n_embd);
  return block.take();
}

/// Bytes of the largest unit on the device, those with a vocabulary left out.
std::uint64_t largest_without_vocabulary(const Gpt2Config& config, const zero3::PlanInput& input,
                                         const std::vector<std::string>& fp32_patterns) {
  std::uint64_t largest = 0;
  const auto look_at = [&](const zero3::UnitLayout& unit) {
    largest = std::max(largest, unit.trainable_count * weight_bytes(input.format.precision) +
                                    unit.fp32_trainable_count * weight_bytes(Precision::kFp32));
  };
  look_at(outer_layout(config, fp32_patterns, /*has_vocabulary=*/false));
  if (config.n_layer > 0) look_at(block_layout(config, 0, fp32_patterns));
  return largest;
}

}  // namespace

std::vector<zero3::UnitLayout> unit_layouts(const Gpt2Config& config,
                                            const std::vector<std::string>& fp32_patterns,
                                            const std::optional<RowTiles>& tiles) {
  config.validate();
  std::vector<zero3::UnitLayout> layouts;
  if (tiles) add_tiles(layouts, kEmbedding, config, fp32_patterns, *tiles);
  layouts.push_back(outer_layout(config, fp32_patterns, /*has_vocabulary=*/!tiles));
  for (std::int64_t i = 0; i < config.n_layer; ++i) {
    layouts.push_back(block_layout(config, i, fp32_patterns));
  }
  if (tiles && !config.tie_word_embeddings) {
    add_tiles(layouts, kHead, config, fp32_patterns, *tiles);
  }
  return layouts;
}

std::optional<RowTiles> vocabulary_tiles(const Gpt2Config& config, const formats::DsConfig& engine,
                                         const zero3::PlanInput& input) {
  const std::vector<std::string> patterns = engine.fp32_patterns();
  const auto in_tiles_of = [&](std::uint64_t bytes) -> std::optional<RowTiles> {
    const bool fp32 = formats::matches_any_pattern(patterns, "transformer.wte.weight");
    const std::uint64_t width = weight_bytes(fp32 ? Precision::kFp32 : input.format.precision);
    const RowTiles tiles(config.vocab_size, config.n_embd,
                         std::max<std::uint64_t>(1, bytes / width));
    return tiles.count() > 1 ? std::make_optional(tiles) : std::nullopt;
  };
  if (const std::uint64_t bytes = engine.strata.tile_bytes.value_or(0); bytes > 0) {
    return in_tiles_of(bytes);
  }
  const std::uint64_t budget = input.budgets.device;
  const auto fits = [&](const std::optional<RowTiles>& tiles) {
    zero3::PlanInput whole = input;
    for (zero3::UnitLayout& unit : unit_layouts(config, patterns, tiles)) {
      whole.units.push_back(std::move(unit));
    }
    return zero3::smallest_budgets(whole).device <= budget;
  };
  if (input.units_stay() || fits(std::nullopt)) return std::nullopt;
  const std::uint64_t others = largest_without_vocabulary(config, input, patterns);
  const std::optional<RowTiles> larger = in_tiles_of(std::max(others, budget / kTilesOfBudget));
  return fits(larger) ? larger : in_tiles_of(others);
}

std::uint64_t parameter_count(const Gpt2Config& config) {
  std::uint64_t count = 0;
  for (const zero3::UnitLayout& unit : unit_layouts(config)) {
    for (const zero3::ParameterLayout& parameter : unit.parameters) count += parameter.count;
  }
  return count;
}

zero3::StepWork step_work(const Gpt2Config& config, const MicroBatch& micro_batch,
                          std::uint64_t micro_batches, bool recompute,
                          const std::optional<RowTiles>& tiles) {
  const auto width = static_cast<double>(config.n_embd);
  const double tokens = micro_batch.tokens();
  const double matrices = width * (4 * width + 2 * static_cast<double>(config.inner()));
  const double pairs = static_cast<double>(micro_batch.length) * width;
  const double block = 2 * tokens * (matrices + pairs);
  const auto head_of = [&](std::int64_t rows) {
    return 2 * tokens * static_cast<double>(rows) * width;
  };
  const auto layers = static_cast<std::size_t>(config.n_layer);
  const auto tile_count = static_cast<std::size_t>(tiles ? tiles->count() : 0);
  const std::size_t outer = tile_count;

  zero3::StepWork work;
  work.micro_batches = micro_batches;
  work.loop = zero3::StepWork::Loop::kUnitByUnit;
  for (std::size_t tile = 0; tile < tile_count; ++tile) work.uses.push_back({.unit = tile});
  work.uses.push_back({.unit = outer});  // the embeddings
  for (std::size_t i = 1; i <= layers; ++i) {
    work.uses.push_back({.unit = outer + i,
                         .forward = block,
                         .backward = kBackwardPerForward * block,
                         .recompute = recompute ? block : 0,
                         .input_elements = static_cast<std::uint64_t>(tokens * width)});
  }
  if (!tiles) {
    const double head = head_of(config.vocab_size);
    work.uses.push_back({.unit = outer, .forward = head, .backward = kBackwardPerForward * head});
    return work;
  }
  work.uses.push_back({.unit = outer});  // the last norm
  const std::size_t first = config.tie_word_embeddings ? 0 : outer + layers + 1;
  for (std::size_t tile = 0; tile < tile_count; ++tile) {
    const double head = head_of(tiles->size(static_cast<std::int64_t>(tile)));
    work.uses.push_back({.unit = first + tile,
                         .forward = head,
                         .backward = kBackwardPerForward * head,
                         .recompute = head});
  }
  return work;
}

std::uint64_t block_input_bytes(const Gpt2Config& config, const MicroBatch& micro_batch,
                                std::uint64_t micro_batches, std::uint64_t number_bytes) {
  const double line = micro_batch.tokens() * static_cast<double>(config.n_embd);
  return static_cast<std::uint64_t>(line * static_cast<double>(config.n_layer) *
                                    static_cast<double>(micro_batches)) *
         number_bytes;
}

std::uint64_t estimated_activation_bytes(const Gpt2Config& config, const MicroBatch& micro_batch,
                                         std::uint64_t micro_batches, std::uint64_t number_bytes,
                                         bool recompute, const std::optional<RowTiles>& tiles) {
  const auto number = static_cast<double>(number_bytes);
  const auto layers = static_cast<double>(config.n_layer);
  const double line = micro_batch.tokens() * static_cast<double>(config.n_embd);
  const double block = line * kKeptBytesOfBlock * number / 2;
  const auto inputs =
      static_cast<double>(block_input_bytes(config, micro_batch, micro_batches, number_bytes));
  const double blocks =
      recompute ? inputs + block : block * layers * static_cast<double>(micro_batches);
  const auto loss =
      static_cast<double>(loss_bytes({.rows = static_cast<std::int64_t>(micro_batch.tokens()),
                                      .vocab_size = tiles ? tiles->tile_rows() : config.vocab_size,
                                      .width = config.n_embd,
                                      .number_bytes = static_cast<std::int64_t>(number_bytes)}));
  std::uint64_t largest = 0;
  for (const zero3::UnitLayout& unit : unit_layouts(config, {}, tiles)) {
    largest = std::max(largest, unit.trainable_count);
  }
  const std::uint64_t sums = micro_batches > 1 ? largest * sizeof(float) : 0;
  const double of_tiles =
      tiles ? line * (2 * number * static_cast<double>(micro_batches) + sizeof(float)) : 0;
  return static_cast<std::uint64_t>(blocks + loss + of_tiles) + largest * number_bytes + sums;
}

}  // namespace strata::models
