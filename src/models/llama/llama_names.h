#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "strata/formats/safetensors.h"

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

/// Whether it is the frequencies of a rotary embedding, which old versions of transformers stored.
[[nodiscard]] bool is_rope_buffer(std::string_view name, const formats::TensorInfo& tensor);

}  // namespace strata::models
