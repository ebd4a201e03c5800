#include "zero3/add_straight.h"

#include <algorithm>
#include <array>
#include <mutex>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/optim_cpu/convert.h"

namespace strata::zero3 {

using optim_cpu::kGradientBlockElements;
using optim_cpu::SumOfSquares;

namespace {

/// Elements that a thread adds at a time.
constexpr std::uint64_t kStraightBlockElements = 1 << 16;
static_assert(kStraightBlockElements % kGradientBlockElements == 0);
/// Zeros that are added at a time; bytes for as many in every format.
constexpr std::uint64_t kZeros = 16 * kGradientBlockElements;
alignas(64) constexpr std::array<std::byte, kZeros * sizeof(float)> kZeroBytes{};

/// What all threads know.
struct Addition {
  std::span<const GradientStretch> stretches;
  const GradientHome& home;
  optim_cpu::InstructionSet instructions;

  [[nodiscard]] std::uint64_t begin() const { return stretches.front().begin; }
  [[nodiscard]] std::uint64_t end() const { return stretches.back().end; }
  [[nodiscard]] std::uint64_t home_width() const {
    return weight_bytes(home.fp32 ? Precision::kFp32 : home.precision);
  }
};

void check(const Addition& of) {
  STRATA_CHECK(of.begin() % kGradientBlockElements == 0, std::to_string(of.begin()));
  STRATA_CHECK((of.end() - of.begin()) * of.home_width() == of.home.bytes.size(),
               std::to_string(of.home.bytes.size()));
  for (const GradientStretch& stretch : of.stretches) {
    if (!stretch.values.defined()) continue;
    STRATA_CHECK(stretch.values.is_cpu() && stretch.values.is_contiguous() &&
                     stretch.values.scalar_type() == scalar_type(of.home.precision) &&
                     stretch.begin % kGradientBlockElements == 0,
                 std::to_string(stretch.begin));
  }
}

SumOfSquares add(const Addition& of, std::uint64_t at, std::uint64_t count,
                 const std::byte* values) {
  return optim_cpu::accumulate_gradient(of.instructions, of.home.precision, of.home.fp32,
                                        of.home.first, count, values,
                                        of.home.bytes.data() + (at - of.begin()) * of.home_width());
}

/// Zeros are added too: they make a home's -0 a +0. Behind a parameter's end they begin within a
/// block, which is filled first: no block after that may be cut.
SumOfSquares add_zeros(const Addition& of, std::uint64_t begin, std::uint64_t end) {
  SumOfSquares sum;
  for (std::uint64_t at = begin; at < end;) {
    const std::uint64_t grid = at % kGradientBlockElements == 0 ? kZeros : kGradientBlockElements;
    const std::uint64_t next = std::min(end, (at / grid + 1) * grid);
    sum.add(add(of, at, next - at, kZeroBytes.data()));
    at = next;
  }
  return sum;
}

/// Adds elements [begin, end) of the flat gradient, on one thread.
SumOfSquares add_part(const Addition& of, std::uint64_t begin, std::uint64_t end) {
  SumOfSquares sum;
  auto stretch = std::ranges::upper_bound(of.stretches, begin, {}, &GradientStretch::end);
  for (std::uint64_t at = begin; at < end; ++stretch) {
    const std::uint64_t next = std::min(end, stretch->end);
    if (stretch->values.defined()) {
      const auto* const values = static_cast<const std::byte*>(stretch->values.const_data_ptr());
      const std::uint64_t skipped = (at - stretch->begin) * weight_bytes(of.home.precision);
      sum.add(add(of, at, next - at, values + skipped));
    } else {
      sum.add(add_zeros(of, at, next));
    }
    at = next;
  }
  return sum;
}

}  // namespace

SumOfSquares add_straight(std::span<const GradientStretch> stretches, const GradientHome& home,
                          optim_cpu::ComputeThreads& threads) {
  const Addition addition{stretches, home, threads.instructions()};
  check(addition);
  const std::uint64_t begin = addition.begin();
  SumOfSquares total;
  std::mutex mutex;  // guards `total`, which parts join in any order
  threads.for_each_block(
      addition.end() - begin, kStraightBlockElements, [&](optim_cpu::Block block) {
        const SumOfSquares sum = add_part(addition, begin + block.begin, begin + block.end);
        const std::lock_guard lock(mutex);
        total.add(sum);
      });
  return total;
}

}  // namespace strata::zero3
