#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "state_bank.h"

namespace strata::python {

/// A state of a parameter as a tensor of a safetensors file. Its format: F32 or BF16 moments in the
/// parameter's shape; int8 moments as U8, whole blocks; masters as F32 (fp16 parameters), I16 or I8
/// (bf16) in its shape.
struct SavedTensor {
  std::string name;
  std::size_t parameter;
  StateKind kind;
};

/// Writes the states to `directory`, as files of at most `file_bytes` (a larger tensor has one of
/// its own), with `manifest` in `manifest_name` beside them. It appears complete or not at all.
/// Memory: the bank's windows. Throws what OutputDirectory and SafetensorsWriter throw, and what
/// reading states throws.
void save_states(StateBank& bank, const std::filesystem::path& directory,
                 const std::vector<SavedTensor>& tensors, std::uint64_t file_bytes,
                 const std::string& manifest_name, const std::string& manifest);

/// Throws IoError and DataError for what `load_states` would refuse.
void check_states(StateBank& bank, const std::filesystem::path& directory,
                  const std::vector<SavedTensor>& tensors);

/// Reads what `save_states` wrote. All headers are checked before a state is changed. Throws
/// IoError and DataError: a tensor that is missing, or of another dtype or shape than the state
/// here.
void load_states(StateBank& bank, const std::filesystem::path& directory,
                 const std::vector<SavedTensor>& tensors);

}  // namespace strata::python
