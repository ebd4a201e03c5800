#pragma once

#include <torch/torch.h>

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "strata/base/log.h"
#include "strata/formats/checkpoint_manifest.h"
#include "strata/formats/ds_config.h"
#include "strata/zero3/checkpoint.h"
#include "zero3/checkpoint/rank_file.h"
#include "zero3/checkpoint/stored_states.h"
#include "zero3/machinery.h"
#include "zero3/optimizer_step.h"
#include "zero3/parameter_groups.h"
#include "zero3/ranks/ranks.h"
#include "zero3/state_editor.h"
#include "zero3/training.h"
#include "zero3/training_state.h"
#include "zero3/unit_registry.h"

namespace strata::zero3 {

/// Saves an engine's states and brings them back. Its member functions do what those of Engine do
/// that are called save_checkpoint and load_checkpoint. Thread: the engine's.
class Checkpoints {
 public:
  /// The parts that it works with; all of them outlive it.
  struct Parts {
    const formats::DsConfig& config;
    const TrainingState& state;
    const ParameterGroups& groups;
    UnitRegistry& units;
    Machinery& machinery;
    StateEditor& editor;
    Training& training;
    OptimizerStep& optimizer;
    Ranks& ranks;
    c10::Device torch_device;
    Logger& log;
  };
  explicit Checkpoints(const Parts& parts) : parts_(parts) {}

  CheckpointInfo save(const std::filesystem::path& directory, std::string_view tag,
                      const CheckpointOptions& options);
  CheckpointInfo load(const std::filesystem::path& directory, std::string_view tag,
                      const std::function<void()>& before_each_piece);

 private:
  class Saving;
  class Loading;

  Parts parts_;
};

}  // namespace strata::zero3
