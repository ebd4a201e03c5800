#include "zero3/reduction.h"

#include <string>

#include "strata/base/error.h"
#include "strata/optim_cpu/convert.h"

namespace strata::zero3 {

Reduction::Reduction(Ranks& ranks, std::span<const std::byte> packed, std::span<std::byte> received)
    : ranks_(static_cast<std::size_t>(ranks.size())),
      contributions_(ranks_ == 1 ? packed : std::span<const std::byte>(received)) {
  if (ranks_ > 1) exchange_ = ranks.begin_all_to_all(packed, received);
}

optim_cpu::SumOfSquares Reduction::finish(const GradientHome& home,
                                          optim_cpu::ComputeThreads& threads) {
  const std::size_t piece_bytes = contributions_.size() / ranks_;
  const std::size_t count = piece_bytes / weight_bytes(home.precision);
  const std::size_t home_bytes =
      count * weight_bytes(home.fp32 ? Precision::kFp32 : home.precision);
  if (home.bytes.size() != home_bytes || count * weight_bytes(home.precision) != piece_bytes) {
    throw UsageError("reduce: a piece of " + std::to_string(piece_bytes) + " bytes in " +
                     std::string(name_of(home.precision)) + " takes a home of " +
                     std::to_string(home_bytes) + " bytes, not " +
                     std::to_string(home.bytes.size()));
  }
  exchange_.wait();
  return optim_cpu::accumulate_gradient(threads, home.precision, home.fp32, home.first, count,
                                        {contributions_.data(), ranks_, piece_bytes},
                                        home.bytes.data());
}

optim_cpu::SumOfSquares sum_over(Ranks& ranks, const optim_cpu::SumOfSquares& own) {
  optim_cpu::SumOfSquares sum;
  for (const optim_cpu::SumOfSquares& each : ranks.gather_values(own)) sum.add(each);
  return sum;
}

}  // namespace strata::zero3
