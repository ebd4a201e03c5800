#include "strata/models/llama_layout.h"

#include <algorithm>
#include <optional>

#include "models/layout_estimates.h"
#include "models/llama/llama_names.h"
#include "models/llama/llama_shape.h"
#include "models/unit_builder.h"

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

void add_mlp(UnitBuilder& block, const LlamaConfig& config) {
  const std::int64_t width = config.hidden_size, inner = config.intermediate_size;
  if (config.has_fused_projections()) {
    block.add_projection("mlp.gate_up_proj", width, 2 * inner, config.mlp_bias);
  } else {
    block.add_projection("mlp.gate_proj", width, inner, config.mlp_bias);
    block.add_projection("mlp.up_proj", width, inner, config.mlp_bias);
  }
  block.add_projection("mlp.down_proj", inner, width, config.mlp_bias);
}

zero3::UnitLayout block_layout(const LlamaConfig& config, std::int64_t index,
                               const std::vector<std::string>& fp32_patterns) {
  UnitBuilder block(llama_block_name(index), fp32_patterns, config.lora);
  const std::int64_t width = config.hidden_size;
  const std::int64_t queries = config.query_width(), keys = config.key_width();
  if (config.has_fused_projections()) {
    block.add_projection("self_attn.qkv_proj", width, queries + 2 * keys, config.qkv_bias);
  } else {
    block.add_projection("self_attn.q_proj", width, queries, config.qkv_bias);
    block.add_projection("self_attn.k_proj", width, keys, config.qkv_bias);
    block.add_projection("self_attn.v_proj", width, keys, config.qkv_bias);
  }
  block.add_projection("self_attn.o_proj", queries, width, config.output_bias);
  if (config.qk_norm) {
    const bool all = config.norms_all_heads();
    block.add("self_attn.q_norm.weight", {all ? queries : config.head_width()});
    block.add("self_attn.k_norm.weight", {all ? keys : config.head_width()});
  }
  if (config.has_experts(index)) {
    block.add(llama_routed_name(config) + "." + kRouter + ".weight", {config.num_experts, width});
  } else {
    add_mlp(block, config);
  }
  for (const std::string& norm : llama_norm_names(config)) block.add(norm + ".weight", {width});
  return block.take();
}

/// Adapters are of what is not routed.
zero3::UnitLayout expert_layout(const LlamaConfig& config, std::int64_t layer, std::int64_t expert,
                                const std::vector<std::string>& fp32_patterns) {
  UnitBuilder unit(llama_expert_name(config, layer, expert), fp32_patterns, config.lora);
  const std::int64_t width = config.hidden_size, inner = config.expert_width();
  const auto [gate, up, down] = llama_expert_matrices(config);
  unit.add(gate + ".weight", {inner, width});
  unit.add(up + ".weight", {inner, width});
  unit.add(down + ".weight", {width, inner});
  return unit.take();
}

std::optional<ExpertsShape> experts_of(const LlamaConfig& config) {
  if (config.num_experts == 0) return std::nullopt;
  const auto width = static_cast<double>(config.hidden_size);
  return ExpertsShape{.count = config.num_experts,
                      .per_token = config.num_experts_per_tok,
                      .matrices = 3 * width * static_cast<double>(config.expert_width()),
                      .block_matrices = width * (2 * static_cast<double>(config.query_width() +
                                                                         config.key_width()) +
                                                 static_cast<double>(config.num_experts)),
                      .are_in = [config](std::int64_t layer) { return config.has_experts(layer); },
                      .layout =
                          [config](std::int64_t layer, std::int64_t expert,
                                   const std::vector<std::string>& fp32_patterns) {
                            return expert_layout(config, layer, expert, fp32_patterns);
                          }};
}

/// Width inside of all MLPs that a token goes through in a block, the largest there is.
double inner_width(const LlamaConfig& config) {
  std::int64_t width = 0;
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    width = std::max(width, config.has_experts(layer)
                                ? config.num_experts_per_tok * config.expert_width()
                                : config.intermediate_size);
  }
  return static_cast<double>(width);
}

}  // namespace

DecoderShape shape_of(const LlamaConfig& config) {
  config.validate();
  const auto width = static_cast<double>(config.hidden_size);
  const auto queries = static_cast<double>(config.query_width());
  const auto keys = static_cast<double>(config.key_width());
  return {.model_type = config.model_type(),
          .embedding = kLlamaEmbedding,
          .norm = kLlamaNorm,
          .head = kLlamaHead,
          .vocab_size = config.vocab_size,
          .width = config.hidden_size,
          .layers = config.num_hidden_layers,
          .ties = config.tie_word_embeddings,
          .lora = config.lora,
          .block =
              [config](std::int64_t index, const std::vector<std::string>& fp32_patterns) {
                return block_layout(config, index, fp32_patterns);
              },
          .block_matrices =
              width * (2 * queries + 2 * keys + 3 * static_cast<double>(config.intermediate_size)),
          .block_queries = queries,
          .experts = experts_of(config)};
}

std::vector<zero3::UnitLayout> unit_layouts(const LlamaConfig& config,
                                            const std::vector<std::string>& fp32_patterns,
                                            const ModelTiles& tiles) {
  return decoder_units(shape_of(config), fp32_patterns, tiles);
}

ModelTiles tiles_of(const LlamaConfig& config, const formats::DsConfig& engine,
                    const zero3::PlanInput& input) {
  return decoder_tiles(shape_of(config), engine, input);
}

std::uint64_t parameter_count(const LlamaConfig& config) {
  return parameter_count(unit_layouts(config));
}

zero3::StepWork step_work(const LlamaConfig& config, const MicroBatch& micro_batch,
                          std::uint64_t micro_batches, bool recompute, const ModelTiles& tiles) {
  return decoder_work(shape_of(config), micro_batch, micro_batches, recompute, tiles);
}

std::uint64_t block_input_bytes(const LlamaConfig& config, const MicroBatch& micro_batch,
                                std::uint64_t micro_batches, std::uint64_t number_bytes) {
  return decoder_input_bytes(shape_of(config), micro_batch, micro_batches, number_bytes);
}

std::uint64_t estimated_activation_bytes(const LlamaConfig& config, const MicroBatch& micro_batch,
                                         std::uint64_t micro_batches, std::uint64_t number_bytes,
                                         bool recompute, const ModelTiles& tiles) {
  const auto number = static_cast<double>(number_bytes);
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
                           (number * (kKeptOfQueries * queries + kKeptOfMlp * inner_width(config)) +
                            bytes_of_norms(config, number) + normed_heads);
  return decoder_activation_bytes(shape_of(config), block, micro_batch, micro_batches, number_bytes,
                                  recompute, tiles);
}

}  // namespace strata::models
