#include "optim_cpu/number_values.h"
#include "optim_cpu/reference_kernels.h"

namespace strata::optim_cpu {

void reference::add_in_order(const AddSpan& span) {
  for (std::size_t i = span.begin; i < span.end; ++i) {
    float value =
        span.is_first ? read_value(span.precision, span.gradients.front(), i) : span.sum[i];
    for (const void* const gradient : span.gradients.subspan(span.is_first ? 1 : 0))
      value = value + read_value(span.precision, gradient, i);
    span.sum[i] = value;
  }
}

}  // namespace strata::optim_cpu
