#include "strata/models/neox_layout.h"

#include <cstddef>

#include "models/layout_estimates.h"
#include "models/neox/neox_names.h"
#include "models/neox/neox_shape.h"
#include "models/unit_builder.h"

namespace strata::models {

namespace {

// What a block keeps of each token for its backward, in numbers, beside what its norms give: of the
// width and of the width inside the MLP.
constexpr double kKeptOfNeoxWidth = 8;
constexpr double kKeptOfNeoxMlp = 2;

zero3::UnitLayout neox_block(const NeoxConfig& config, std::int64_t index,
                             const std::vector<std::string>& fp32_patterns) {
  const NeoxNames& names = neox_names(config);
  UnitBuilder block(neox_block_name(config, index), fp32_patterns, config.lora);
  const std::int64_t width = config.hidden_size, inner = config.intermediate_size;
  for (const char* norm : {names.first_norm, names.second_norm}) {
    if (norm == nullptr) continue;
    block.add(std::string(norm) + ".weight", {width});
    block.add(std::string(norm) + ".bias", {width});
  }
  const std::string attention = std::string(names.attention) + ".";
  if (config.is_gptj()) {
    for (const char* part : {kGptJQueries, kGptJKeys, kGptJValues}) {
      block.add_projection(attention + part, width, width, config.attention_bias);
    }
  } else {
    block.add_projection(attention + kNeoxFused, width, 3 * width, config.attention_bias);
  }
  block.add_projection(attention + names.output, width, width, config.attention_bias);
  block.add_projection(std::string("mlp.") + names.mlp_in, width, inner, /*has_bias=*/true);
  block.add_projection(std::string("mlp.") + names.mlp_out, inner, width, /*has_bias=*/true);
  return block.take();
}

}  // namespace

DecoderShape shape_of(const NeoxConfig& config) {
  config.validate();
  const NeoxNames& names = neox_names(config);
  const auto width = static_cast<double>(config.hidden_size);
  return {.model_type = config.model_type(),
          .embedding = names.embedding,
          .norm = names.norm,
          .head = names.head,
          .vocab_size = config.vocab_size,
          .width = config.hidden_size,
          .layers = config.num_hidden_layers,
          .ties = config.tie_word_embeddings,
          .lora = config.lora,
          .norm_has_bias = true,
          .head_has_bias = config.is_gptj(),
          .block =
              [config](std::int64_t index, const std::vector<std::string>& fp32_patterns) {
                return neox_block(config, index, fp32_patterns);
              },
          .block_matrices = width * (4 * width + 2 * static_cast<double>(config.intermediate_size)),
          .block_queries = width};
}

std::vector<zero3::UnitLayout> unit_layouts(const NeoxConfig& config,
                                            const std::vector<std::string>& fp32_patterns,
                                            const ModelTiles& tiles) {
  return decoder_units(shape_of(config), fp32_patterns, tiles);
}

ModelTiles tiles_of(const NeoxConfig& config, const formats::DsConfig& engine,
                    const zero3::PlanInput& input) {
  return decoder_tiles(shape_of(config), engine, input);
}

std::uint64_t parameter_count(const NeoxConfig& config) {
  return parameter_count(unit_layouts(config));
}

zero3::StepWork step_work(const NeoxConfig& config, const MicroBatch& micro_batch,
                          std::uint64_t micro_batches, bool recompute, const ModelTiles& tiles) {
  return decoder_work(shape_of(config), micro_batch, micro_batches, recompute, tiles);
}

std::uint64_t block_input_bytes(const NeoxConfig& config, const MicroBatch& micro_batch,
                                std::uint64_t micro_batches, std::uint64_t number_bytes) {
  return decoder_input_bytes(shape_of(config), micro_batch, micro_batches, number_bytes);
}

std::uint64_t estimated_activation_bytes(const NeoxConfig& config, const MicroBatch& micro_batch,
                                         std::uint64_t micro_batches, std::uint64_t number_bytes,
                                         bool recompute, const ModelTiles& tiles) {
  const double norms = config.is_gptj() ? 1 : 2;
  const double numbers = (kKeptOfNeoxWidth + norms) * static_cast<double>(config.hidden_size) +
                         kKeptOfNeoxMlp * static_cast<double>(config.intermediate_size);
  const double block = micro_batch.tokens() * numbers * static_cast<double>(number_bytes);
  return decoder_activation_bytes(shape_of(config), block, micro_batch, micro_batches, number_bytes,
                                  recompute, tiles);
}

}  // namespace strata::models
