#pragma once

#include <array>
#include <string>
#include <string_view>

#include "strata/formats/safetensors.h"
#include "strata/models/model_config.h"

namespace strata::models {

/// How a family's tensors are named in files.
struct TensorNames {
  /// What all but the head begin with, unless the files are those of a model without one.
  std::string_view prefix;
  std::string_view embedding;  ///< the token embedding
  std::string_view head = "lm_head.weight";
  std::string_view other_head = {};  ///< another name of it that files may have
  /// Two that every model has, without the prefix: by them a common prefix of a wrapper is found.
  std::array<std::string_view, 2> known;
  /// The name of a parameter, from its full name in the units.
  std::string (*of_parameter)(const std::string& full_name);
  /// Whether a tensor is a buffer of old files that follows from the config.
  bool (*is_buffer)(std::string_view name, const formats::TensorInfo& tensor);
};

[[nodiscard]] TensorNames tensor_names(const ModelConfig& config);

/// Whether it is a parameter of the head: "lm_head.weight", or its bias.
[[nodiscard]] bool is_of_head(std::string_view name, const TensorNames& family);

/// What follows "`blocks`N" in the name of a block's tensor; empty: it is none.
[[nodiscard]] std::string_view name_in_block(std::string_view name, std::string_view blocks);

}  // namespace strata::models
