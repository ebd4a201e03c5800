#pragma once

#include <array>
#include <cstddef>

#include "strata/base/number_format.h"
#include "strata/optim_cpu/update.h"

namespace strata::optim_cpu {

/// The part of `span` from element `begin` to its end.
[[nodiscard]] UpdateSpan rest_of(const UpdateSpan& span, std::size_t begin);

/// What accumulate_gradient works on, or a part of it.
struct AccumulateSpan {
  Precision precision;
  bool target_fp32;
  bool first;
  std::size_t count;
  const void* source;
  void* target;
};

/// `count` elements of `span` from element `begin`.
[[nodiscard]] AccumulateSpan part_of(const AccumulateSpan& span, std::size_t begin,
                                     std::size_t count);

/// Where squares are summed up: those of element i of a span go to lane i % 16, whatever the length
/// of the machine's vectors. A span may continue the lanes of another that ended at a multiple
/// of 16.
using SumLanes = std::array<double, 16>;

}  // namespace strata::optim_cpu
