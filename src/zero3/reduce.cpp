#include "zero3/reduce.h"

#include <algorithm>

namespace strata::zero3 {

void pack(const Unit& unit, const FlatVector& vector,
          const torch::autograd::variable_list& gradients, std::uint64_t begin,
          const torch::Tensor& bucket, Counters& counters) {
  const ScopedTimer busy(counters, Hop::kReduce, ScopedTimer::Kind::kBusy, unit.name(),
                         bucket.nbytes());
  const torch::NoGradGuard no_grad;
  const auto part_of = [](const torch::Tensor& row, std::uint64_t first, std::uint64_t count) {
    return row.narrow(0, static_cast<std::int64_t>(first), static_cast<std::int64_t>(count));
  };
  const std::uint64_t end = begin + static_cast<std::uint64_t>(bucket.numel());
  std::uint64_t packed = begin;
  const auto fill_zeros = [&](std::uint64_t up_to) {
    if (up_to <= packed) return;
    part_of(bucket, packed - begin, up_to - packed).zero_();
    packed = up_to;
  };
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const ParameterLayout& parameter = *unit.trainables()[i].layout;
    if (&unit.vector_of(parameter) != &vector) continue;
    const std::uint64_t first = std::max(begin, parameter.offset);
    const std::uint64_t last = std::min(end, parameter.offset + parameter.count);
    if (first >= last || !gradients[i].defined()) continue;
    fill_zeros(first);
    part_of(bucket, first - begin, last - first)
        .copy_(part_of(gradients[i].view({-1}), first - parameter.offset, last - first));
    packed = last;
  }
  fill_zeros(end);
  counters.add_moved(Hop::kReduce, bucket.nbytes());
}

void release(const Unit& unit, const FlatVector& vector, torch::autograd::variable_list& gradients,
             std::uint64_t end) {
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const ParameterLayout& parameter = *unit.trainables()[i].layout;
    if (&unit.vector_of(parameter) != &vector || parameter.offset + parameter.count > end) continue;
    gradients[i].reset();
  }
}

}  // namespace strata::zero3
