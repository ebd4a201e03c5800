#include "zero3/reduce.h"

#include <algorithm>
#include <cstring>

namespace strata::zero3 {

void reduce(const Unit& unit, const FlatVector& vector, torch::autograd::variable_list& gradients,
            std::uint64_t begin, std::span<std::byte> bucket, Counters& counters) {
  const ScopedTimer busy(counters, Hop::kReduce, ScopedTimer::Kind::kBusy);
  const std::uint64_t width = weight_bytes(vector.format.precision);
  const std::uint64_t end = begin + bucket.size() / width;
  std::uint64_t packed = begin;
  const auto fill_zeros = [&](std::uint64_t up_to) {
    if (up_to <= packed) return;
    std::memset(bucket.data() + (packed - begin) * width, 0, (up_to - packed) * width);
    packed = up_to;
  };
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const ParameterLayout& parameter = *unit.trainables()[i].layout;
    if (&unit.vector_of(parameter) != &vector) continue;
    const std::uint64_t first = std::max(begin, parameter.offset);
    const std::uint64_t last = std::min(end, parameter.offset + parameter.count);
    if (first >= last) continue;
    if (gradients[i].defined()) {
      fill_zeros(first);
      const auto* source = static_cast<const std::byte*>(gradients[i].const_data_ptr());
      std::memcpy(bucket.data() + (first - begin) * width,
                  source + (first - parameter.offset) * width, (last - first) * width);
      packed = last;
      if (last == parameter.offset + parameter.count) gradients[i].reset();
    }
  }
  fill_zeros(end);
  counters.add_moved(Hop::kReduce, bucket.size());
}

}  // namespace strata::zero3
