#include <oneapi/tbb/parallel_for.h>

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

double accumulate_block(const KernelTable& kernels, const AccumulateSpan& span, std::size_t block) {
  const std::size_t begin = block * kGradientBlockElements;
  const std::size_t count = std::min(kGradientBlockElements, span.count - begin);
  SumLanes lanes{};
  kernels.accumulate(part_of(span, begin, count), lanes);
  return std::accumulate(lanes.begin(), lanes.end(), 0.0);
}

}  // namespace

GradientSums accumulate_gradient(Precision precision, bool target_fp32, bool first,
                                 std::size_t count, const void* source, void* target,
                                 double initial_sum) {
  const KernelTable& kernels = chosen_kernels();
  const AccumulateSpan span{precision, target_fp32, first, count, source, target};
  const std::size_t blocks = ceil_div(count, kGradientBlockElements);
  std::array<double, kBlocksPerRound> sums;
  double total = initial_sum;
  for (std::size_t begin = 0; begin < blocks; begin += kBlocksPerRound) {
    const std::size_t end = std::min(begin + kBlocksPerRound, blocks);
    tbb::parallel_for(begin, end, [&](std::size_t block) {
      sums[block - begin] = accumulate_block(kernels, span, block);
    });
    total = std::accumulate(sums.begin(), sums.begin() + (end - begin), total);
  }

  // Squares of finite fp32 never overflow a double, so the sum tells whether all were finite.
  if (std::isnan(total)) return {std::numeric_limits<double>::quiet_NaN(), false};
  return {total, std::isfinite(total)};
}

}  // namespace strata::optim_cpu
