#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "optim_cpu/kernel_table.h"
#include "strata/base/units.h"
#include "strata/optim_cpu/convert.h"

namespace strata::optim_cpu {
namespace {

/// Blocks whose sums are kept at one time until they are added up in order.
constexpr std::size_t kBlocksPerRound = 1024;
constexpr std::size_t kElementsPerRound = kBlocksPerRound * kGradientBlockElements;

double accumulate_block(const KernelTable& kernels, const AccumulateSpan& span, std::size_t begin,
                        std::size_t end) {
  SumLanes lanes{};
  kernels.accumulate(part_of(span, begin, end - begin), lanes);
  return std::accumulate(lanes.begin(), lanes.end(), 0.0);
}

}  // namespace

GradientSums accumulate_gradient(ComputeThreads& threads, Precision precision, bool target_fp32,
                                 bool first, std::size_t count, const void* source, void* target,
                                 double initial_sum) {
  const KernelTable& kernels = chosen_kernels();
  const AccumulateSpan span{precision, target_fp32, first, count, source, target};
  std::array<double, kBlocksPerRound> sums;
  double total = initial_sum;
  for (std::size_t begin = 0; begin < count; begin += kElementsPerRound) {
    const std::size_t end = std::min(begin + kElementsPerRound, count);
    threads.for_each_block(end - begin, kGradientBlockElements, [&](Block block) {
      sums[block.begin / kGradientBlockElements] =
          accumulate_block(kernels, span, begin + block.begin, begin + block.end);
    });
    const std::size_t blocks = ceil_div(end - begin, kGradientBlockElements);
    total = std::accumulate(sums.begin(), sums.begin() + blocks, total);
  }

  // Squares of finite fp32 never overflow a double, so the sum tells whether all were finite.
  if (std::isnan(total)) return {std::numeric_limits<double>::quiet_NaN(), false};
  return {total, std::isfinite(total)};
}

}  // namespace strata::optim_cpu
