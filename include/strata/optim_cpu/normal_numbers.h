#pragma once

#include <cstdint>
#include <span>

#include "strata/optim_cpu/instruction_set.h"

namespace strata::optim_cpu {

/// Writes random numbers of the normal distribution with mean 0: element `first + i` of the
/// sequence `key` to numbers[i]. An element is a function of both alone, so that any part of a
/// sequence can be made by whoever wants it, and has the bits of the whole; also on every
/// instruction set.
///
/// 32 bits of a hash of the element's place, the upper 24 of them as a uniform number x between -1
/// and 1, times the inverse of the error function: deviation * sqrt(2) * erfinv(x), the latter as
/// in M. Giles, "Approximating the erfinv function" (GPU Computing Gems, Jade Edition, 2011,
/// chapter 10), within 1e-6 of it. No number is beyond 5.5 deviations. Not for cryptography.
/// `deviation` is finite. Thread: works on the caller's; other parts may be made at the same time.
void normal_numbers(InstructionSet instructions, std::uint64_t key, std::uint64_t first,
                    float deviation, std::span<float> numbers);

}  // namespace strata::optim_cpu
