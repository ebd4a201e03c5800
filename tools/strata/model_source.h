#pragma once

#include <memory>
#include <string>

#include "finetune_options.h"
#include "strata/formats/model_directory.h"
#include "strata/models/gpt2_config.h"
#include "strata/zero3/engine.h"

namespace strata::tool {

/// Where a run's model comes from: its shape and the initial value of every parameter. Nothing of
/// the model's size is in memory.
struct ModelSource {
  std::string name;  ///< for people: the preset's or the file's
  models::Gpt2Config config;
  std::unique_ptr<formats::ModelDirectory> directory;  ///< null for random weights
  ParameterInitializer initializer;                    ///< must not outlive this object
};

/// Opens --model, --model-config or --preset and checks all there is to check before building.
/// Throws ConfigError, DataError, IoError.
[[nodiscard]] ModelSource open_model(const FinetuneOptions& options);

}  // namespace strata::tool
