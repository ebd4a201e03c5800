#include "zero3/reduce.h"

#include <algorithm>

namespace strata::zero3 {

namespace {

torch::Tensor part_of(const torch::Tensor& row, std::uint64_t first, std::uint64_t count) {
  return row.narrow(0, static_cast<std::int64_t>(first), static_cast<std::int64_t>(count));
}

}  // namespace

std::vector<GradientStretch> stretches_of(const Unit& unit, const FlatVector& vector,
                                          const torch::autograd::variable_list& gradients,
                                          std::uint64_t begin, std::uint64_t end) {
  const torch::NoGradGuard no_grad;
  std::vector<GradientStretch> stretches;
  std::uint64_t at = begin;
  const auto fill_zeros = [&](std::uint64_t up_to) {
    if (at < up_to) stretches.push_back({at, up_to, {}});
    at = up_to;
  };
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const ParameterLayout& parameter = *unit.trainables()[i].layout;
    if (&unit.vector_of(parameter) != &vector) continue;
    const std::uint64_t first = std::max(begin, parameter.offset);
    const std::uint64_t last = std::min(end, parameter.offset + parameter.count);
    if (first >= last || !gradients[i].defined()) continue;
    fill_zeros(first);
    stretches.push_back(
        {first, last, part_of(gradients[i].view({-1}), first - parameter.offset, last - first)});
    at = last;
  }
  fill_zeros(end);
  return stretches;
}

void pack(const Unit& unit, std::span<const GradientStretch> stretches, const torch::Tensor& bucket,
          Counters& counters) {
  const ScopedTimer busy(counters, Hop::kReduce, ScopedTimer::Kind::kBusy, unit.name(),
                         bucket.nbytes());
  const torch::NoGradGuard no_grad;
  for (const GradientStretch& stretch : stretches) {
    torch::Tensor target =
        part_of(bucket, stretch.begin - stretches.front().begin, stretch.end - stretch.begin);
    if (stretch.values.defined()) {
      target.copy_(stretch.values);
    } else {
      target.zero_();
    }
  }
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
