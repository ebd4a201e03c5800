#pragma once

#include <torch/torch.h>

namespace strata::zero3 {

/// The sum of a unit's gradients of several micro-batches, on the device: they are added in fp32 in
/// the order in which they come, as they would be at a home in fp32, and so have the same bits.
/// Memory: LibTorch's, an fp32 number for each element that has a gradient. Works on LibTorch's
/// current stream.
class GradientSum {
 public:
  /// Adds a gradient for each trainable parameter; undefined where there is none.
  void add(const torch::autograd::variable_list& gradients);
  /// The sums, undefined where nothing came; none when nothing was added. It is empty afterwards.
  [[nodiscard]] torch::autograd::variable_list take();

 private:
  torch::autograd::variable_list sums_;
};

}  // namespace strata::zero3
