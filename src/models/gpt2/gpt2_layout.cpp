#include "strata/models/gpt2_layout.h"

#include <algorithm>
#include <array>

#include "models/gpt2/gpt2_names.h"
#include "models/layout_estimates.h"
#include "models/unit_builder.h"
#include "strata/formats/ds_config.h"

namespace strata::models {

namespace {

// What tiles of queries, keys, values and of both ways back into the residual stream give, in
// elements of the width; those of the MLP's first layer come on top.
constexpr double kPiecesOfBlock = 5;
constexpr double kKeptBytesOfBlock = 34;  // in 16 bits, for a token and an element of the width

constexpr const char* kEmbedding = "wte.weight";
constexpr const char* kHead = "lm_head.weight";

void add_norm(UnitBuilder& unit, const std::string& name, std::int64_t width) {
  unit.add(name + ".weight", {width});
  unit.add(name + ".bias", {width});
}

void add_linear(UnitBuilder& unit, const std::string& name, std::int64_t in, std::int64_t out) {
  unit.add(name + ".weight", {in, out});
  unit.add(name + ".bias", {out});
}

zero3::UnitLayout outer_layout(const Gpt2Config& config,
                               const std::vector<std::string>& fp32_patterns, bool has_vocabulary) {
  UnitBuilder outer(std::string(kOuterName), fp32_patterns);
  if (has_vocabulary) outer.add(kEmbedding, {config.vocab_size, config.n_embd});
  outer.add("wpe.weight", {config.n_positions, config.n_embd});
  add_norm(outer, "ln_f", config.n_embd);
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
  add_norm(block, "ln_1", config.n_embd);
  add_linear(block, "attn.c_attn", config.n_embd, 3 * config.n_embd);
  add_linear(block, "attn.c_proj", config.n_embd, config.n_embd);
  add_norm(block, "ln_2", config.n_embd);
  add_linear(block, "mlp.c_fc", config.n_embd, config.inner());
  add_linear(block, "mlp.c_proj", config.inner(), config.n_embd);
  return block.take();
}

/// One linear layer of a block in tiles.
struct CutLayer {
  const char* name;
  std::int64_t in;
  const RowTiles& outputs;
};

std::array<CutLayer, 4> cut_layers(const Gpt2Config& config, const BlockTiles& tiles) {
  return {CutLayer{"attn.c_attn", config.n_embd, tiles.c_attn},
          {"attn.c_proj", config.n_embd, tiles.attn_proj},
          {"mlp.c_fc", config.n_embd, tiles.c_fc},
          {"mlp.c_proj", config.inner(), tiles.mlp_proj}};
}

/// Appends the units of a block in tiles.
void add_tiled_block(std::vector<zero3::UnitLayout>& layouts, const Gpt2Config& config,
                     std::int64_t index, const std::vector<std::string>& fp32_patterns,
                     const BlockTiles& tiles) {
  UnitBuilder rest(block_name(index), fp32_patterns);
  add_norm(rest, "ln_1", config.n_embd);
  add_norm(rest, "ln_2", config.n_embd);
  layouts.push_back(rest.take());
  for (const CutLayer& layer : cut_layers(config, tiles)) {
    for (std::int64_t tile = 0; tile < layer.outputs.count(); ++tile) {
      UnitBuilder unit(tile_name(tile, block_name(index) + "." + layer.name), fp32_patterns);
      unit.add("weight", {layer.in, layer.outputs.size(tile)});
      unit.add("bias", {layer.outputs.size(tile)});
      layouts.push_back(unit.take());
    }
  }
}

/// Sizes of tiles of a model in a config's format of computation.
class TileSizes {
 public:
  TileSizes(const Gpt2Config& config, const std::vector<std::string>& fp32_patterns,
            Precision precision)
      : config_(config), patterns_(fp32_patterns), precision_(precision) {}

  /// Those of a vocabulary in tiles of at most so many bytes; nullopt: it is no larger.
  [[nodiscard]] std::optional<RowTiles> vocabulary(std::uint64_t bytes) const {
    return table_tiles(config_.vocab_size, config_.n_embd,
                       elements(bytes, "transformer.wte.weight"));
  }
  /// Those of blocks; nullopt: one is no larger, or there is none.
  [[nodiscard]] std::optional<BlockTiles> blocks(std::uint64_t bytes) const {
    if (block_bytes() <= bytes) return std::nullopt;
    return BlockTiles(config_, elements(bytes, "transformer.h.0.mlp.c_fc.weight"));
  }
  /// Bytes of a block, and of what is in none and is not cut.
  [[nodiscard]] std::uint64_t block_bytes() const {
    return config_.n_layer == 0 ? 0 : device_bytes(block_layout(config_, 0, patterns_), precision_);
  }
  [[nodiscard]] std::uint64_t outer_bytes() const {
    return device_bytes(outer_layout(config_, patterns_, /*has_vocabulary=*/false), precision_);
  }

 private:
  [[nodiscard]] std::uint64_t elements(std::uint64_t bytes, const char* weight) const {
    return elements_within(bytes, weight, patterns_, precision_);
  }

  const Gpt2Config& config_;
  const std::vector<std::string>& patterns_;
  Precision precision_;
};

}  // namespace

BlockTiles::BlockTiles(const Gpt2Config& config, std::uint64_t elements_max)
    : c_attn(3 * config.n_embd, config.n_embd, elements_max),
      attn_proj(config.n_embd, config.n_embd, elements_max),
      c_fc(config.inner(), config.n_embd, elements_max),
      mlp_proj(config.n_embd, config.inner(), elements_max) {}

std::vector<zero3::UnitLayout> unit_layouts(const Gpt2Config& config,
                                            const std::vector<std::string>& fp32_patterns,
                                            const Gpt2Tiles& tiles) {
  config.validate();
  std::vector<zero3::UnitLayout> layouts;
  const std::optional<RowTiles>& vocabulary = tiles.vocabulary;
  if (vocabulary) add_tiles(layouts, kEmbedding, config, fp32_patterns, *vocabulary);
  layouts.push_back(outer_layout(config, fp32_patterns, /*has_vocabulary=*/!vocabulary));
  for (std::int64_t i = 0; i < config.n_layer; ++i) {
    if (tiles.blocks) {
      add_tiled_block(layouts, config, i, fp32_patterns, *tiles.blocks);
    } else {
      layouts.push_back(block_layout(config, i, fp32_patterns));
    }
  }
  if (vocabulary && !config.tie_word_embeddings) {
    add_tiles(layouts, kHead, config, fp32_patterns, *vocabulary);
  }
  return layouts;
}

Gpt2Tiles tiles_of(const Gpt2Config& config, const formats::DsConfig& engine,
                   const zero3::PlanInput& input) {
  config.validate();
  const std::vector<std::string> patterns = engine.fp32_patterns();
  const TileSizes sizes(config, patterns, input.format.precision);
  if (const std::uint64_t bytes = engine.strata.tile_bytes.value_or(0); bytes > 0) {
    return {.vocabulary = sizes.vocabulary(bytes), .blocks = sizes.blocks(bytes)};
  }
  const auto fits = [&](const Gpt2Tiles& tiles) {
    return device_has_room(input, unit_layouts(config, patterns, tiles));
  };
  if (input.units_stay() || input.weights_stay() || fits({})) return {};
  const std::uint64_t part = input.budgets.device / kTilesOfBudget;
  const std::uint64_t others = std::max(sizes.block_bytes(), sizes.outer_bytes());
  for (const std::uint64_t bytes : {std::max(others, part), others}) {
    const Gpt2Tiles tiles{.vocabulary = sizes.vocabulary(bytes)};
    if (fits(tiles)) return tiles;
  }
  const auto cut = [&](std::uint64_t bytes) {
    return Gpt2Tiles{.vocabulary = sizes.vocabulary(bytes), .blocks = sizes.blocks(bytes)};
  };
  const Gpt2Tiles larger = cut(std::max(sizes.outer_bytes(), part));
  return fits(larger) ? larger : cut(sizes.outer_bytes());
}

std::uint64_t parameter_count(const Gpt2Config& config) {
  return parameter_count(unit_layouts(config));
}

namespace {

/// Appends the uses of a block in tiles; its first unit is `first`. Returns the unit behind it.
std::size_t add_tiled_block(zero3::StepWork& work, const Gpt2Config& config,
                            const MicroBatch& micro_batch, bool recompute, std::size_t first,
                            const BlockTiles& tiles) {
  const double tokens = micro_batch.tokens();
  const std::size_t begin = work.uses.size();
  const auto use = [&](std::size_t unit, double flop) {
    work.uses.push_back({.unit = unit,
                         .forward = flop,
                         .backward = kBackwardPerForward * flop,
                         .recompute = recompute ? flop : 0});
  };
  const double attention =
      2 * tokens * static_cast<double>(micro_batch.length) * static_cast<double>(config.n_embd);
  std::size_t unit = first + 1;
  const std::array<CutLayer, 4> layers = cut_layers(config, tiles);
  for (std::size_t layer = 0; layer < layers.size(); ++layer) {
    if (layer == 0 || layer == 2) use(first, 0);  // a norm
    const RowTiles& outputs = layers[layer].outputs;
    for (std::int64_t tile = 0; tile < outputs.count(); ++tile) {
      const bool attends = layer == 1 && tile == 0;  // what comes between counts with what follows
      use(unit++, 2 * tokens * static_cast<double>(layers[layer].in) *
                          static_cast<double>(outputs.size(tile)) +
                      (attends ? attention : 0));
    }
  }
  if (recompute) work.spans.push_back({begin, work.uses.size()});
  return unit;
}

}  // namespace

zero3::StepWork step_work(const Gpt2Config& config, const MicroBatch& micro_batch,
                          std::uint64_t micro_batches, bool recompute, const Gpt2Tiles& tiles) {
  const auto width = static_cast<double>(config.n_embd);
  const double tokens = micro_batch.tokens();
  const double matrices = width * (4 * width + 2 * static_cast<double>(config.inner()));
  const double pairs = static_cast<double>(micro_batch.length) * width;
  const double block = 2 * tokens * (matrices + pairs);
  const auto head_of = [&](std::int64_t rows) {
    return 2 * tokens * static_cast<double>(rows) * width;
  };
  const std::optional<RowTiles>& vocabulary = tiles.vocabulary;
  const auto tile_count = static_cast<std::size_t>(vocabulary ? vocabulary->count() : 0);
  const std::size_t outer = tile_count;

  zero3::StepWork work;
  work.micro_batches = micro_batches;
  work.loop = zero3::StepWork::Loop::kUnitByUnit;
  for (std::size_t tile = 0; tile < tile_count; ++tile) work.uses.push_back({.unit = tile});
  work.uses.push_back({.unit = outer});  // the embeddings
  std::size_t next = outer + 1;
  for (std::int64_t i = 0; i < config.n_layer; ++i) {
    if (tiles.blocks) {
      next = add_tiled_block(work, config, micro_batch, recompute, next, *tiles.blocks);
      continue;
    }
    work.uses.push_back({.unit = next++,
                         .forward = block,
                         .backward = kBackwardPerForward * block,
                         .recompute = recompute ? block : 0,
                         .input_elements = static_cast<std::uint64_t>(tokens * width)});
  }
  if (!vocabulary) {
    const double head = head_of(config.vocab_size);
    work.uses.push_back({.unit = outer, .forward = head, .backward = kBackwardPerForward * head});
    return work;
  }
  work.uses.push_back({.unit = outer});  // the last norm
  const std::size_t first = config.tie_word_embeddings ? 0 : next;
  for (std::size_t tile = 0; tile < tile_count; ++tile) {
    const double head = head_of(vocabulary->size(static_cast<std::int64_t>(tile)));
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
                                         bool recompute, const Gpt2Tiles& tiles) {
  const auto number = static_cast<double>(number_bytes);
  const auto layers = static_cast<double>(config.n_layer);
  const double line = micro_batch.tokens() * static_cast<double>(config.n_embd);
  const auto inner = static_cast<double>(config.inner()) / static_cast<double>(config.n_embd);
  const double pieces = tiles.blocks ? kPiecesOfBlock + inner : 0;
  const double block = line * (kKeptBytesOfBlock / 2 + pieces) * number;
  const auto inputs =
      static_cast<double>(block_input_bytes(config, micro_batch, micro_batches, number_bytes));
  const auto all = static_cast<double>(micro_batches);
  const double again = tiles.blocks ? block * all : block;
  const double of_blocks = tiles.blocks ? line * std::max(1.0, inner) * sizeof(float) : 0;
  const double blocks = (recompute ? inputs + again : block * layers * all) + of_blocks;
  const auto loss = static_cast<double>(
      loss_bytes(micro_batch, config.vocab_size, config.n_embd, tiles.vocabulary, number_bytes));
  const std::uint64_t gradients =
      gradient_bytes(unit_layouts(config, {}, tiles), micro_batches, number_bytes);
  const double of_tiles = tiles.vocabulary ? line * (2 * number * all + sizeof(float)) : 0;
  return static_cast<std::uint64_t>(blocks + loss + of_tiles) + gradients;
}

}  // namespace strata::models
