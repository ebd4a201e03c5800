#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "strata/formats/safetensors.h"
#include "strata/models/llama_config.h"

/// \file
/// The names of the units of a model of Llama's kind. They are prefixes of transformers' names, so
/// a parameter's full name is its name in files.

namespace strata::models {

inline constexpr std::string_view kLlamaEmbedding = "model.embed_tokens";
inline constexpr std::string_view kLlamaNorm = "model.norm";
inline constexpr std::string_view kLlamaHead = "lm_head";

[[nodiscard]] inline std::string llama_block_name(std::int64_t index) {
  return "model.layers." + std::to_string(index);
}

/// The part of a block that has its router and its experts.
[[nodiscard]] inline std::string llama_routed_name(const LlamaConfig& config) {
  return config.type == LlamaConfig::Type::kMixtral ? "block_sparse_moe" : "mlp";
}
inline constexpr const char* kRouter = "gate";

/// The unit of an expert.
[[nodiscard]] inline std::string llama_expert_name(const LlamaConfig& config, std::int64_t layer,
                                                   std::int64_t expert) {
  return llama_block_name(layer) + "." + llama_routed_name(config) + ".experts." +
         std::to_string(expert);
}

/// The matrices of an expert: gate, up and down.
[[nodiscard]] inline std::array<std::string, 3> llama_expert_matrices(const LlamaConfig& config) {
  if (config.type == LlamaConfig::Type::kMixtral) return {"w1", "w3", "w2"};
  return {"gate_proj", "up_proj", "down_proj"};
}

inline constexpr const char* kInputNorm = "input_layernorm";
inline constexpr const char* kPostAttentionNorm = "post_attention_layernorm";
inline constexpr const char* kPreMlpNorm = "pre_feedforward_layernorm";
inline constexpr const char* kPostMlpNorm = "post_feedforward_layernorm";

/// The norms of a block, in the order in which it has them. What is called "post_attention_
/// layernorm" comes before the MLP where nothing norms what comes out of attention.
[[nodiscard]] inline std::vector<std::string> llama_norm_names(const LlamaConfig& config) {
  if (!config.norms_outputs()) return {kInputNorm, kPostAttentionNorm};
  if (!config.norms_inputs()) return {kPostAttentionNorm, kPostMlpNorm};
  return {kInputNorm, kPostAttentionNorm, kPreMlpNorm, kPostMlpNorm};
}

/// Whether it is the frequencies of a rotary embedding, which old versions of transformers stored.
[[nodiscard]] bool is_rope_buffer(std::string_view name, const formats::TensorInfo& tensor);

}  // namespace strata::models
