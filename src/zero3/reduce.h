#pragma once

#include <torch/torch.h>

#include <cstdint>

#include "strata/base/counters.h"
#include "zero3/unit.h"

namespace strata::zero3 {

/// Packs elements [begin, begin + bucket elements) of the flat gradient of `vector`, one of the
/// unit's, into `bucket` (hop 5, reduce), on LibTorch's current stream. With one rank it packs the
/// gradient, with several this rank's contribution to it.
///
/// `gradients` are autograd's, one for each trainable parameter of the unit in the layout's order,
/// in the weight's format or as sums in fp32, and contiguous; an undefined one counts as zero, as
/// does the padding. `bucket` is a row of numbers of that format.
void pack(const Unit& unit, const FlatVector& vector,
          const torch::autograd::variable_list& gradients, std::uint64_t begin,
          const torch::Tensor& bucket, Counters& counters);

/// Releases the gradients of the vector's parameters that end at element `end` or before.
void release(const Unit& unit, const FlatVector& vector, torch::autograd::variable_list& gradients,
             std::uint64_t end);

}  // namespace strata::zero3
