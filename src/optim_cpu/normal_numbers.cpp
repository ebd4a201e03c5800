#include "strata/optim_cpu/normal_numbers.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "optim_cpu/dither.h"
#include "optim_cpu/kernel_table.h"
#include "optim_cpu/normal_numbers.h"
#include "strata/base/error.h"

namespace strata::optim_cpu {

namespace {

constexpr std::uint64_t kRound = std::uint64_t{1} << 32;  // places that a pair of keys has

}  // namespace

void normal_numbers(InstructionSet instructions, std::uint64_t key, std::uint64_t first,
                    float deviation, std::span<float> numbers) {
  if (!std::isfinite(deviation)) throw UsageError("normal numbers of a deviation not finite");
  while (!numbers.empty()) {
    const std::uint64_t round = first / kRound;
    const std::uint64_t count = std::min<std::uint64_t>(numbers.size(), kRound - first % kRound);
    instructions.kernels().normal_numbers({.inner_key = make_dither_key(key, 2 * round),
                                           .outer_key = make_dither_key(key, 2 * round + 1),
                                           .first = static_cast<std::uint32_t>(first % kRound),
                                           .scale = deviation * std::numbers::sqrt2_v<float>,
                                           .count = count,
                                           .numbers = numbers.data()});
    numbers = numbers.subspan(count);
    first += count;
  }
}

}  // namespace strata::optim_cpu
