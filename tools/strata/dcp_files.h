#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "strata/base/number_format.h"
#include "strata/formats/safetensors.h"
#include "strata/zero3/checkpoint_values.h"

namespace strata::tool {

/// A checkpoint as PyTorch's distributed checkpoint in its safetensors form: what
/// torch.distributed.checkpoint's HuggingFaceStorageWriter makes of
///
///     {"model": {NAME: tensor}, "optim": {"state": {NAME: {"exp_avg": ..., "step": ...}}}}
///
/// by its flattening of nested dictionaries (keys joined by dots). Learning rates and other values
/// that are no tensors have no place in that form; they are the config's.
class DcpFiles {
 public:
  /// Plans files of about `file_bytes_max` bytes. Weights have the format of `precision`, states
  /// are fp32. `values` outlives it. Throws UsageError for names beyond safetensors.
  DcpFiles(const CheckpointValues& values, Precision precision,
           std::uint64_t file_bytes_max = 5'000'000'000);

  [[nodiscard]] std::uint64_t bytes() const;

  /// Writes the files and their index into an existing directory. Throws IoError.
  void write(const std::filesystem::path& directory,
             const std::function<void()>& before_each_piece) const;

 private:
  /// A tensor, and what it is made from.
  struct Source {
    formats::TensorInfo tensor;
    const CheckpointValues::Parameter* parameter;
    std::optional<StateKind> kind;  ///< kWeight, kM or kV; nullopt: the count of steps
  };

  void write_file(const std::filesystem::path& path, const std::vector<Source>& sources,
                  const std::function<void()>& before_each_piece) const;

  const CheckpointValues& values_;
  Precision precision_;
  std::vector<std::vector<Source>> files_;
};

}  // namespace strata::tool
