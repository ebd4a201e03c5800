#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "finetune_options.h"
#include "interruption.h"
#include "strata/formats/model_directory.h"
#include "strata/models/lora.h"
#include "strata/models/model_config.h"
#include "strata/zero3/engine.h"

namespace strata::tool {

/// The source of a run's model: its shape and the initial value of every parameter. Nothing of
/// the model's size is in memory.
struct ModelSource {
  std::string name;  ///< name for people: the preset's or the file's
  models::ModelConfig config;
  std::string config_text;    ///< text of its config.json; empty for a preset
  bool has_own_head = false;  ///< even if config.json ties the head to the embedding
  std::unique_ptr<formats::ModelDirectory> directory;  ///< null for random weights
  std::unique_ptr<models::AdapterDirectory> adapter;   ///< that training goes on from, or null
  ParameterInitializer initializer;                    ///< must not outlive this object
};

/// Opens a Hugging Face directory, as open_model does.
[[nodiscard]] ModelSource open_model_directory(const std::filesystem::path& path,
                                               const Interruption& interruption);

/// Gives the model the adapters in PEFT's directory `path`. Throws ConfigError, DataError and
/// IoError for those of another model, and of a language model within a larger one.
void add_adapter(ModelSource& model, const std::filesystem::path& path);

/// Opens --model, --model-config or --preset, gives it the adapters of --lora or --adapter, and
/// checks all there is to check before building.
/// `interruption` is looked at while weights are read, here and by the initializer.
/// Throws ConfigError, DataError, IoError, Interrupted.
[[nodiscard]] ModelSource open_model(const FinetuneOptions& options,
                                     const Interruption& interruption);

}  // namespace strata::tool
