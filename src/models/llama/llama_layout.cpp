#include "strata/models/llama_layout.h"

#include <algorithm>
#include <cstddef>
#include <optional>

#include "models/layout_estimates.h"
#include "models/llama/llama_names.h"
#include "models/unit_builder.h"
#include "strata/base/error.h"
#include "strata/formats/ds_config.h"

namespace strata::models {

namespace {

// What a block keeps of each token for its backward, in numbers: of all heads' queries and of the
// width inside the MLP.
constexpr double kKeptOfQueries = 5;
constexpr double kKeptOfMlp = 4;
// Of each pair of tokens and head where scores are capped, in fp32, with one that is on the way.
constexpr double kKeptOfScores = 3;

/// What the norms of a block keep of a token, in bytes: the input in fp32, and the value with and
/// without the weight, of which one is in fp32 too where the weight is multiplied by in fp32.
double bytes_of_norms(const LlamaConfig& config, double number) {
  const double norms = (config.norms_inputs() ? 2 : 0) + (config.norms_outputs() ? 2 : 0);
  const double of_one =
      config.norms_in_fp32() ? 2 * sizeof(float) + number : sizeof(float) + 2 * number;
  return norms * of_one * static_cast<double>(config.hidden_size);
}

zero3::UnitLayout block_layout(const LlamaConfig& config, std::int64_t index,
                               const std::vector<std::string>& fp32_patterns) {
  UnitBuilder block(llama_block_name(index), fp32_patterns);
  const auto add_projection = [&](const std::string& name, std::int64_t in, std::int64_t out,
                                  bool has_bias) {
    block.add(name + ".weight", {out, in});
    if (has_bias) block.add(name + ".bias", {out});
  };
  const std::int64_t width = config.hidden_size, inner = config.intermediate_size;
  const std::int64_t queries = config.query_width(), keys = config.key_width();
  if (config.has_fused_projections()) {
    add_projection("self_attn.qkv_proj", width, queries + 2 * keys, config.qkv_bias);
  } else {
    add_projection("self_attn.q_proj", width, queries, config.qkv_bias);
    add_projection("self_attn.k_proj", width, keys, config.qkv_bias);
    add_projection("self_attn.v_proj", width, keys, config.qkv_bias);
  }
  add_projection("self_attn.o_proj", queries, width, config.output_bias);
  if (config.qk_norm) {
    const bool all = config.norms_all_heads();
    block.add("self_attn.q_norm.weight", {all ? queries : config.head_width()});
    block.add("self_attn.k_norm.weight", {all ? keys : config.head_width()});
  }
  if (config.has_fused_projections()) {
    add_projection("mlp.gate_up_proj", width, 2 * inner, config.mlp_bias);
  } else {
    add_projection("mlp.gate_proj", width, inner, config.mlp_bias);
    add_projection("mlp.up_proj", width, inner, config.mlp_bias);
  }
  add_projection("mlp.down_proj", inner, width, config.mlp_bias);
  for (const std::string& norm : llama_norm_names(config)) block.add(norm + ".weight", {width});
  return block.take();
}

/// Appends a table of the vocabulary, whole or in tiles.
void add_table(std::vector<zero3::UnitLayout>& layouts, std::string_view name,
               const LlamaConfig& config, const std::vector<std::string>& fp32_patterns,
               const std::optional<RowTiles>& tiles) {
  const auto add = [&](std::string unit_name, std::int64_t rows) {
    UnitBuilder unit(std::move(unit_name), fp32_patterns);
    unit.add("weight", {rows, config.hidden_size});
    layouts.push_back(unit.take());
  };
  if (!tiles) {
    add(std::string(name), config.vocab_size);
    return;
  }
  for (std::int64_t tile = 0; tile < tiles->count(); ++tile) {
    add(tile_name(tile, std::string(name)), tiles->size(tile));
  }
}

/// The vocabulary in tiles of at most so many bytes; nullopt: it is no larger.
std::optional<RowTiles> vocabulary_tiles(const LlamaConfig& config,
                                         const std::vector<std::string>& fp32_patterns,
                                         Precision precision, std::uint64_t bytes) {
  return table_tiles(config.vocab_size, config.hidden_size,
                     elements_within(bytes, "model.embed_tokens.weight", fp32_patterns, precision));
}

}  // namespace

std::vector<zero3::UnitLayout> unit_layouts(const LlamaConfig& config,
                                            const std::vector<std::string>& fp32_patterns,
                                            const ModelTiles& tiles) {
  config.validate();
  std::vector<zero3::UnitLayout> layouts;
  add_table(layouts, kLlamaEmbedding, config, fp32_patterns, tiles.vocabulary);
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    layouts.push_back(block_layout(config, i, fp32_patterns));
  }
  UnitBuilder norm(std::string(kLlamaNorm), fp32_patterns);
  norm.add("weight", {config.hidden_size});
  layouts.push_back(norm.take());
  if (!config.tie_word_embeddings) {
    add_table(layouts, kLlamaHead, config, fp32_patterns, tiles.vocabulary);
  }
  return layouts;
}

ModelTiles tiles_of(const LlamaConfig& config, const formats::DsConfig& engine,
                    const zero3::PlanInput& input) {
  config.validate();
  const std::vector<std::string> patterns = engine.fp32_patterns();
  const Precision precision = input.format.precision;
  const std::uint64_t block = device_bytes(block_layout(config, 0, patterns), precision);
  const auto cut = [&](std::uint64_t bytes) {
    return ModelTiles{.vocabulary = vocabulary_tiles(config, patterns, precision, bytes)};
  };
  if (const std::uint64_t bytes = engine.strata.tile_bytes.value_or(0); bytes > 0) {
    if (block > bytes) {
      throw ConfigError(engine.name + ": strata.tile_bytes: blocks of a \"" +
                        std::string(config.model_type()) +
                        "\" are not cut into tiles, and one has " + std::to_string(block) +
                        " bytes; give at least that, and the vocabulary alone is cut");
    }
    return cut(bytes);
  }
  const auto fits = [&](const ModelTiles& tiles) {
    return device_has_room(input, unit_layouts(config, patterns, tiles));
  };
  if (input.units_stay() || input.weights_stay() || fits({})) return {};
  const ModelTiles larger = cut(std::max(block, input.budgets.device / kTilesOfBudget));
  return fits(larger) ? larger : cut(block);
}

std::uint64_t parameter_count(const LlamaConfig& config) {
  return parameter_count(unit_layouts(config));
}

zero3::StepWork step_work(const LlamaConfig& config, const MicroBatch& micro_batch,
                          std::uint64_t micro_batches, bool recompute, const ModelTiles& tiles) {
  const auto width = static_cast<double>(config.hidden_size);
  const auto queries = static_cast<double>(config.query_width());
  const auto keys = static_cast<double>(config.key_width());
  const double tokens = micro_batch.tokens();
  const double matrices =
      width * (2 * queries + 2 * keys + 3 * static_cast<double>(config.intermediate_size));
  const double pairs = static_cast<double>(micro_batch.length) * queries;
  const double block = 2 * tokens * (matrices + pairs);
  const auto input_elements = static_cast<std::uint64_t>(tokens * width);

  zero3::StepWork work;
  work.micro_batches = micro_batches;
  work.loop = zero3::StepWork::Loop::kUnitByUnit;
  std::size_t unit = 0;
  const std::int64_t parts = tiles.vocabulary ? tiles.vocabulary->count() : 1;
  for (std::int64_t part = 0; part < parts; ++part) work.uses.push_back({.unit = unit++});
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    work.uses.push_back({.unit = unit++,
                         .forward = block,
                         .backward = kBackwardPerForward * block,
                         .recompute = recompute ? block : 0,
                         .input_elements = input_elements});
  }
  work.uses.push_back({.unit = unit++, .input_elements = input_elements});  // the last norm
  if (config.tie_word_embeddings) unit = 0;
  for (std::int64_t part = 0; part < parts; ++part) {
    const std::int64_t rows = tiles.vocabulary ? tiles.vocabulary->size(part) : config.vocab_size;
    const double head = 2 * tokens * static_cast<double>(rows) * width;
    work.uses.push_back({.unit = unit++,
                         .forward = head,
                         .backward = kBackwardPerForward * head,
                         .recompute = tiles.vocabulary ? head : 0});
  }
  return work;
}

std::uint64_t block_input_bytes(const LlamaConfig& config, const MicroBatch& micro_batch,
                                std::uint64_t micro_batches, std::uint64_t number_bytes) {
  const double line = micro_batch.tokens() * static_cast<double>(config.hidden_size);
  return static_cast<std::uint64_t>(line * static_cast<double>(config.num_hidden_layers + 1) *
                                    static_cast<double>(micro_batches)) *
         number_bytes;
}

std::uint64_t estimated_activation_bytes(const LlamaConfig& config, const MicroBatch& micro_batch,
                                         std::uint64_t micro_batches, std::uint64_t number_bytes,
                                         bool recompute, const ModelTiles& tiles) {
  const auto number = static_cast<double>(number_bytes);
  const auto width = static_cast<double>(config.hidden_size);
  const auto queries = static_cast<double>(config.query_width());
  const auto keys = static_cast<double>(config.key_width());
  const double normed_heads = config.qk_norm ? (queries + keys) * (sizeof(float) + number) : 0;
  const auto length = static_cast<double>(micro_batch.length);
  const bool slides = config.sliding_window && *config.sliding_window < micro_batch.length;
  // Of all pairs of tokens, as it is made and in the format of computation.
  const double mask = slides ? length * length * (1 + number) : 0;
  const double scores = config.attention_soft_cap
                            ? micro_batch.tokens() * length *
                                  static_cast<double>(config.num_attention_heads) *
                                  (kKeptOfScores * sizeof(float) + number)
                            : 0;
  const double block = mask + scores +
                       micro_batch.tokens() *
                           (number * (kKeptOfQueries * queries +
                                      kKeptOfMlp * static_cast<double>(config.intermediate_size)) +
                            bytes_of_norms(config, number) + normed_heads);
  const auto all = static_cast<double>(micro_batches);
  const auto inputs =
      static_cast<double>(block_input_bytes(config, micro_batch, micro_batches, number_bytes));
  const double blocks =
      recompute ? inputs + block : block * static_cast<double>(config.num_hidden_layers) * all;
  const auto loss = static_cast<double>(loss_bytes(
      micro_batch, config.vocab_size, config.hidden_size, tiles.vocabulary, number_bytes));
  const std::uint64_t gradients =
      gradient_bytes(unit_layouts(config, {}, tiles), micro_batches, number_bytes);
  const double line = micro_batch.tokens() * width;
  // What goes into the head, of all micro-batches; of tiles also the rows of the tokens, and the
  // gradient of what they take in fp32.
  const double head =
      line * number * all + (tiles.vocabulary ? line * (number * all + sizeof(float)) : 0);
  return static_cast<std::uint64_t>(blocks + loss + head) + gradients;
}

}  // namespace strata::models
