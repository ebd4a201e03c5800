#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "strata/base/number_format.h"
#include "strata/formats/safetensors.h"
#include "strata/zero3/checkpoint.h"

namespace strata {

/// The states in a checkpoint as fp32 numbers, without an engine or a model: for programs that take
/// them elsewhere. Holds the files' headers alone; the caller reads tensors in pieces of any size.
/// No LibTorch.
///
///     const CheckpointValues values("run/checkpoints/step_00000120");
///     for (const auto& parameter : values.parameters()) {
///       std::vector<float> masters(parameter.count);
///       values.read_masters(parameter, 0, masters);
///     }
class CheckpointValues {
 public:
  /// A parameter, under its full name in the engine.
  struct Parameter {
    std::string name;
    std::vector<std::int64_t> shape = {};
    std::uint64_t count = 0;  ///< elements
    bool trainable = true;
    std::int64_t steps = 0;  ///< optimizer steps of its own; 0 for a frozen one
  };

  /// Opens the checkpoint in the directory `checkpoint` (find_checkpoint says which), and compares
  /// the checksums of the files that are read: weights and masters, and with `moments` the
  /// optimizer's. `before_each_piece` is called meanwhile, and may throw; it may be empty.
  /// Throws DataError, naming the file, for what is damaged, missing or contradicts itself;
  /// IoError.
  CheckpointValues(const std::filesystem::path& checkpoint, bool moments,
                   const std::function<void()>& before_each_piece = {});

  [[nodiscard]] const CheckpointInfo& info() const { return info_; }
  /// The format that the run computed in.
  [[nodiscard]] Precision precision() const { return precision_; }
  /// The rule of its updates: "adamw", "adam", "sgd with momentum", "sgd", "adagrad" or "lion".
  [[nodiscard]] const std::string& optimizer() const { return optimizer_; }
  /// In the order in which they lie in the files.
  [[nodiscard]] const std::vector<Parameter>& parameters() const { return parameters_; }
  /// Whether the parameter has this moment (kM, kV), and the checkpoint was opened with moments.
  [[nodiscard]] bool has(StateKind moment, const Parameter& parameter) const;

  /// Reads elements [begin, begin + out.size()) of the fp32 master, exactly as it was trained; a
  /// frozen parameter has its weight alone. Throws IoError, UsageError for another range.
  void read_masters(const Parameter& parameter, std::uint64_t begin, std::span<float> out) const;

  /// Reads elements of a moment that `has`, in fp32. `begin` is a multiple of 64. Throws as above.
  void read_moments(StateKind moment, const Parameter& parameter, std::uint64_t begin,
                    std::span<float> out) const;

 private:
  [[nodiscard]] const formats::SafetensorsFile& file(StateKind kind) const;
  [[nodiscard]] const formats::TensorInfo* find(StateKind kind, std::string_view name) const;
  void check_states(const Parameter& parameter) const;

  CheckpointInfo info_;
  Precision precision_ = Precision::kFp32;
  std::string optimizer_;
  std::vector<Parameter> parameters_;
  std::map<StateKind, formats::SafetensorsFile> files_;
};

}  // namespace strata
