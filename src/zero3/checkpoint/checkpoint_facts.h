#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "strata/formats/checkpoint_manifest.h"
#include "strata/formats/ds_config.h"
#include "strata/formats/safetensors.h"
#include "strata/optim_cpu/sum_of_squares.h"
#include "strata/zero3/checkpoint.h"
#include "strata/zero3/unit_layout.h"
#include "zero3/checkpoint/stored_states.h"
#include "zero3/training_state.h"

/// \file
/// What a checkpoint's manifest says of the run that it is of, and whether that is this run. No
/// LibTorch.

namespace strata::zero3 {

/// The counts of optimizer steps of trainable parameters, by their full names.
using ParameterSteps = std::map<std::string, std::int64_t>;

/// The sums of squares of units' gradients, over all ranks, by unit and flat vector.
using GradientSquares = std::map<std::pair<std::size_t, std::size_t>, optim_cpu::SumOfSquares>;

/// A run at the moment of a checkpoint.
struct CheckpointFacts {
  const formats::DsConfig& config;
  const std::vector<UnitLayout>& units;
  const TrainingState& state;
  const ParameterSteps& steps;
  const GradientSquares& squares;
};

/// What a manifest says to programs.
[[nodiscard]] CheckpointInfo info_of(const formats::CheckpointManifest& manifest);

/// The manifest's sections.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> sections_of(
    const CheckpointFacts& facts);

/// Throws DataError, naming the manifest and what differs, unless the checkpoint is of this model
/// (its units, in their order, and what of them is frozen), optimizer and format of states, and its
/// micro-batches are fewer than an accumulation has.
void require_same_run(const formats::CheckpointManifest& manifest, const formats::DsConfig& config,
                      const std::vector<UnitLayout>& units);

/// Throws DataError, naming `file` and the first tensor that differs, unless it has exactly the
/// tensors of `expected`, wherever in the file they lie.
void require_same_tensors(const formats::SafetensorsFile& file, const StoredFile& expected);

/// The counts of steps of the trainable parameters of `units`. Throws DataError.
[[nodiscard]] ParameterSteps steps_in(const formats::CheckpointManifest& manifest,
                                      const std::vector<UnitLayout>& units);
/// Throws DataError.
[[nodiscard]] GradientSquares squares_in(const formats::CheckpointManifest& manifest,
                                         std::size_t units);

}  // namespace strata::zero3
