#include "optim_cpu/number_values.h"
#include "optim_cpu/reference_kernels.h"

namespace strata::optim_cpu {

void reference::accumulate(const AccumulateSpan& span, SumLanes& lanes) {
  const Precision target_format = span.target_fp32 ? Precision::kFp32 : span.precision;
  for (std::size_t i = 0; i < span.count; ++i) {
    float value = read_value(span.precision, span.source, i);
    if (!span.first) value = read_value(target_format, span.target, i) + value;
    write_value(target_format, span.target, i, value);
    const double stored = read_value(target_format, span.target, i);
    lanes[i % lanes.size()] += stored * stored;
  }
}

}  // namespace strata::optim_cpu
