#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <vector>

#include "zero3/unit.h"

/// \file
/// Checks of the graph that a body makes: all it depends on comes in by the door, and recomputation
/// makes the same again.

namespace strata::zero3 {

/// Refuses captured tensors: gradients flow into what is passed to a body, and nowhere else.
///
/// `outputs` were made by a body that began when the autograd sequence number was
/// `first_sequence_number`, from the leaves `inputs`, the unit's parameters and units inside.
/// Throws UsageError for a graph that goes on beyond these.
void refuse_captured_tensors(const Unit& unit, const torch::autograd::variable_list& inputs,
                             const torch::autograd::variable_list& outputs,
                             std::uint64_t first_sequence_number);

/// Whether a graph over `leaves` or the unit's parameters still exists, though its outputs are
/// gone: the module keeps a tensor of it.
[[nodiscard]] bool is_graph_alive(const Unit& unit, const torch::autograd::variable_list& leaves);

/// Some numbers of a forward's outputs, to be compared with those of its recomputation.
class OutputSample {
 public:
  OutputSample() = default;
  explicit OutputSample(const torch::autograd::variable_list& outputs);

  /// Throws UsageError when `outputs` differ by more than kernels may.
  void compare(const Unit& unit, const torch::autograd::variable_list& outputs) const;

 private:
  std::vector<torch::Tensor> samples_;  // fp64; undefined where there is nothing to compare
};

}  // namespace strata::zero3
