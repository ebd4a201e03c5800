#include <algorithm>
#include <array>
#include <mutex>

#include "optim_cpu/kernel_table.h"
#include "strata/base/units.h"
#include "strata/optim_cpu/convert.h"

namespace strata::optim_cpu {
namespace {

/// The elements that a thread is given at a time.
constexpr std::size_t kElementsAtOnce = 512 * kGradientBlockElements;

SumOfSquares accumulate_part(const KernelTable& kernels, const AccumulateSpan& part) {
  std::array<double, kElementsAtOnce / kGradientBlockElements> block_sums;
  kernels.accumulate(part, block_sums.data());
  const std::size_t blocks = ceil_div(part.count, kGradientBlockElements);
  SumOfSquares sum;
  for (std::size_t i = 0; i < blocks; ++i) sum.add(block_sums[i]);
  return sum;
}

AccumulateSpan span_of(Precision precision, bool target_fp32, bool first, std::size_t count,
                       const Contributions& contributions, void* target) {
  return {.precision = precision,
          .target_fp32 = target_fp32,
          .first = first,
          .count = count,
          .source = contributions.first,
          .target = target,
          .contributions = contributions.ranks,
          .stride = contributions.stride};
}

}  // namespace

SumOfSquares accumulate_gradient(ComputeThreads& threads, Precision precision, bool target_fp32,
                                 bool first, std::size_t count, const Contributions& contributions,
                                 void* target) {
  const KernelTable& kernels = threads.instructions().kernels();
  const AccumulateSpan span = span_of(precision, target_fp32, first, count, contributions, target);
  SumOfSquares total;
  std::mutex mutex;  // guards `total`, which parts join in any order
  threads.for_each_block(count, kElementsAtOnce, [&](Block block) {
    const SumOfSquares sum =
        accumulate_part(kernels, part_of(span, block.begin, block.end - block.begin));
    const std::lock_guard lock(mutex);
    total.add(sum);
  });
  return total;
}

SumOfSquares accumulate_gradient(InstructionSet instructions, Precision precision, bool target_fp32,
                                 bool first, std::size_t count, const Contributions& contributions,
                                 void* target) {
  const KernelTable& kernels = instructions.kernels();
  const AccumulateSpan span = span_of(precision, target_fp32, first, count, contributions, target);
  SumOfSquares total;
  for (std::size_t begin = 0; begin < count; begin += kElementsAtOnce) {
    total.add(
        accumulate_part(kernels, part_of(span, begin, std::min(kElementsAtOnce, count - begin))));
  }
  return total;
}

}  // namespace strata::optim_cpu
