#pragma once

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
