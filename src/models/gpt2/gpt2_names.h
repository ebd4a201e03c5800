#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "strata/formats/safetensors.h"

/// \file
/// The names of GPT-2's units, and transformers' names for their parameters.

namespace strata::models {

inline constexpr std::string_view kOuterName = "transformer";

[[nodiscard]] inline std::string block_name(std::int64_t index) {
  return "transformer.h." + std::to_string(index);
}

/// The name in a checkpoint file. It differs only for an untied head, which is in the unit
/// "transformer" here.
[[nodiscard]] inline std::string checkpoint_name(const std::string& full_name) {
  return full_name == "transformer.lm_head.weight" ? "lm_head.weight" : full_name;
}

/// Whether it is a causal mask, which old versions of transformers stored as buffers.
[[nodiscard]] bool is_causal_mask(std::string_view name, const formats::TensorInfo& tensor);

}  // namespace strata::models
