#include <cmath>

#include "optim_cpu/number_values.h"
#include "optim_cpu/reference_kernels.h"

namespace strata::optim_cpu {
namespace {

float read_master(const AdamSpan& span, std::size_t i) {
  switch (span.precision) {
    case Precision::kFp32: return static_cast<const float*>(span.weight)[i];
    case Precision::kBf16:
      return join_hi_lo({static_cast<const std::uint16_t*>(span.weight)[i],
                         static_cast<const std::int16_t*>(span.master)[i]});
    case Precision::kFp16: return static_cast<const float*>(span.master)[i];
  }
  return 0;
}

void write_master(const AdamSpan& span, std::size_t i, float master) {
  switch (span.precision) {
    case Precision::kFp32: static_cast<float*>(span.weight)[i] = master; return;
    case Precision::kBf16: {
      const auto [hi, lo] = split_hi_lo(master);
      static_cast<std::uint16_t*>(span.weight)[i] = hi;
      static_cast<std::int16_t*>(span.master)[i] = lo;
      return;
    }
    case Precision::kFp16:
      static_cast<float*>(span.master)[i] = master;
      static_cast<std::uint16_t*>(span.weight)[i] = to_fp16(master);
      return;
  }
}

float read_gradient(const AdamSpan& span, std::size_t i) {
  const Precision format = span.gradient_fp32 ? Precision::kFp32 : span.precision;
  return read_value(format, span.gradient, i);
}

}  // namespace

void reference::adam(const AdamConstants& k, const AdamSpan& span) {
  for (std::size_t i = 0; i < span.count; ++i) {
    float p = read_master(span, i);
    float g = read_gradient(span, i) * k.gradient_scale;
    float m = span.m[i];
    float v = span.v[i];

    p = p * k.weight_factor;
    if (k.has_l2) g = std::fma(p, k.l2, g);
    m = std::fma(g, k.one_minus_beta1, m * k.beta1);
    v = std::fma(k.one_minus_beta2 * g, g, v * k.beta2);
    const float denominator = std::sqrt(v) / k.root_bias_correction2 + k.eps;
    p = p + k.negative_step_size * m / denominator;

    write_master(span, i, p);
    span.m[i] = m;
    span.v[i] = v;
  }
}

void adam_update_reference(const AdamOptions& options, std::int64_t step, float gradient_scale,
                           const AdamSpan& span) {
  reference::adam(AdamConstants(options, step, gradient_scale), span);
}

}  // namespace strata::optim_cpu
