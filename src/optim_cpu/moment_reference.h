#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "optim_cpu/moment_block.h"
#include "strata/optim_cpu/update.h"

namespace strata::optim_cpu {

/// A block's moments in fp32, ready to compute with.
using MomentValues = std::array<float, kBlock>;

/// The moments of elements [begin, begin + count) of `span`, at most a block, exactly one with int8
/// moments. Moments that the format lacks are left alone.
void read_moments(const UpdateSpan& span, std::size_t begin, std::size_t count, MomentValues& m,
                  MomentValues& v);

/// The inverse, rounded by the random numbers of `dither_key`.
void write_moments(const UpdateSpan& span, std::size_t begin, std::size_t count,
                   const MomentValues& m, const MomentValues& v, std::uint32_t dither_key);

}  // namespace strata::optim_cpu
