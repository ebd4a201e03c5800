#pragma once

#include <string>

#include "plan_options.h"
#include "strata/models/model_config.h"

namespace strata::tool {

/// The model that is planned for.
struct PlannedModel {
  std::string name;
  models::ModelConfig config;
  std::string note;  ///< what the person should know of it; may be empty
};

/// GPT's shape with about so many parameters: depth by size, width to the multiple of 128 that
/// comes nearest. Throws ConfigError for fewer parameters than such a model has at least.
[[nodiscard]] models::Gpt2Config shape_of(double parameters);

/// Reads --model, --model-config, --preset or --params. Of a directory's weights only the headers
/// are read. Throws ConfigError, DataError, IoError.
[[nodiscard]] PlannedModel planned_model(const PlanOptions& options);

}  // namespace strata::tool
