#include <algorithm>

#include "optim_cpu/number_values.h"
#include "optim_cpu/reference_kernels.h"
#include "strata/optim_cpu/sum_of_squares.h"

namespace strata::optim_cpu {
namespace {

/// Returns the new value of the target.
float accumulate_element(const AccumulateSpan& span, Precision target_format, std::size_t i) {
  float value = read_value(span.precision, span.source, i);
  for (std::size_t rank = 1; rank < span.contributions; ++rank)
    value = value + read_value(span.precision, contribution(span, rank), i);
  if (!span.first) value = read_value(target_format, span.target, i) + value;
  write_value(target_format, span.target, i, value);
  return read_value(target_format, span.target, i);
}

double sum_of_lanes(SumLanes& lanes) {
  for (std::size_t half = lanes.size() / 2; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

}  // namespace

void reference::accumulate(const AccumulateSpan& span, double* block_sums) {
  const Precision target_format = span.target_fp32 ? Precision::kFp32 : span.precision;
  for (std::size_t begin = 0; begin < span.count; begin += kGradientBlockElements) {
    const std::size_t end = std::min(begin + kGradientBlockElements, span.count);
    SumLanes lanes{};
    for (std::size_t i = begin; i < end; ++i) {
      const double stored = accumulate_element(span, target_format, i);
      lanes[i % lanes.size()] += stored * stored;
    }
    *block_sums++ = sum_of_lanes(lanes);
  }
}

}  // namespace strata::optim_cpu
