#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "strata/base/number_format.h"
#include "strata/optim_cpu/update.h"

namespace strata::optim_cpu {

/// The part of `span` from element `begin` to its end.
[[nodiscard]] UpdateSpan rest_of(const UpdateSpan& span, std::size_t begin);

/// The elements that accumulate_gradient works on, or a part of them.
struct AccumulateSpan {
  Precision precision;
  bool target_fp32;
  bool first;
  std::size_t count;
  const void* source;  ///< the first contribution
  void* target;
  std::size_t contributions = 1;
  std::uint64_t stride = 0;  ///< bytes from one contribution to the next
};

/// Contribution number `rank` of `span`.
[[nodiscard]] inline const std::byte* contribution(const AccumulateSpan& span, std::size_t rank) {
  return static_cast<const std::byte*>(span.source) + rank * span.stride;
}

/// `count` elements of `span` from element `begin`.
[[nodiscard]] AccumulateSpan part_of(const AccumulateSpan& span, std::size_t begin,
                                     std::size_t count);

/// The elements that add_in_order works on.
struct AddSpan {
  Precision precision;
  bool is_first;
  std::size_t begin, end;
  std::span<const void* const> gradients;
  float* sum;
};

/// The lanes that sum up the squares of one block of kGradientBlockElements: the square of element
/// i goes to lane i % 16, whatever the length of the machine's vectors. The lanes are summed as a
/// tree, halves first: lane i and lane i + 8, of these sums i and i + 4, and so on.
using SumLanes = std::array<double, 16>;

}  // namespace strata::optim_cpu
