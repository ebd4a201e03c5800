#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <span>
#include <vector>

#include "strata/base/counters.h"
#include "zero3/unit.h"

namespace strata::zero3 {

/// Elements [begin, end) of a flat gradient, that lie together: of a parameter, or zeros.
struct GradientStretch {
  std::uint64_t begin, end;
  torch::Tensor values;  ///< a contiguous row; undefined: zeros
};

/// Elements [begin, end) of the flat gradient of `vector`, one of the unit's, in order. Those of a
/// parameter begin where it begins, or with `begin`, zeros also with the padding behind it.
///
/// `gradients` are autograd's, one for each trainable parameter of the unit in the layout's order,
/// in the weight's format or as sums in fp32, and contiguous; an undefined one counts as zero, as
/// does the padding.
[[nodiscard]] std::vector<GradientStretch> stretches_of(
    const Unit& unit, const FlatVector& vector, const torch::autograd::variable_list& gradients,
    std::uint64_t begin, std::uint64_t end);

/// Packs stretches, one behind the other, into `bucket`, a row of as many numbers (hop 5, reduce),
/// on LibTorch's current stream. With one rank that is the gradient of `unit`, with several this
/// rank's contribution to it.
void pack(const Unit& unit, std::span<const GradientStretch> stretches, const torch::Tensor& bucket,
          Counters& counters);

/// Releases the gradients of the vector's parameters that end at element `end` or before.
void release(const Unit& unit, const FlatVector& vector, torch::autograd::variable_list& gradients,
             std::uint64_t end);

}  // namespace strata::zero3
