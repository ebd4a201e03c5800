/// \file
/// The Adam update over vectors: adam_reference.cpp's formula, operation by operation. One pass
/// reads every state once and writes every state once.

#if defined(STRATA_OPTIM_CPU_ADAM_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef STRATA_OPTIM_CPU_ADAM_KERNELS_INL_H_
#undef STRATA_OPTIM_CPU_ADAM_KERNELS_INL_H_
#else
#define STRATA_OPTIM_CPU_ADAM_KERNELS_INL_H_
#endif

#include "hwy/highway.h"
#include "optim_cpu/adam_constants.h"
#include "optim_cpu/kernel_spans.h"
#include "optim_cpu/number_lanes-inl.h"
#include "optim_cpu/reference_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace strata::optim_cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

template <class Master, class Gradient, bool kHasL2>
void update(const AdamConstants& constants, const AdamSpan& span) {
  const hn::ScalableTag<float> d;
  const std::size_t lanes = hn::Lanes(d);
  const Master masters(span.weight, span.master);
  const auto* gradients = static_cast<const typename Gradient::Value*>(span.gradient);

  const auto gradient_scale = hn::Set(d, constants.gradient_scale);
  const auto weight_factor = hn::Set(d, constants.weight_factor);
  const auto l2 = hn::Set(d, constants.l2);
  const auto beta1 = hn::Set(d, constants.beta1);
  const auto one_minus_beta1 = hn::Set(d, constants.one_minus_beta1);
  const auto beta2 = hn::Set(d, constants.beta2);
  const auto one_minus_beta2 = hn::Set(d, constants.one_minus_beta2);
  const auto root_bias_correction2 = hn::Set(d, constants.root_bias_correction2);
  const auto eps = hn::Set(d, constants.eps);
  const auto negative_step_size = hn::Set(d, constants.negative_step_size);

  std::size_t i = 0;
  for (; i + lanes <= span.count; i += lanes) {
    auto p = masters.load(d, i);
    auto g = hn::Mul(Gradient::load(d, gradients + i), gradient_scale);
    auto m = hn::LoadU(d, span.m + i);
    auto v = hn::LoadU(d, span.v + i);

    p = hn::Mul(p, weight_factor);
    if constexpr (kHasL2) g = hn::MulAdd(p, l2, g);
    m = hn::MulAdd(g, one_minus_beta1, hn::Mul(m, beta1));
    v = hn::MulAdd(hn::Mul(one_minus_beta2, g), g, hn::Mul(v, beta2));
    const auto denominator = hn::Add(hn::Div(hn::Sqrt(v), root_bias_correction2), eps);
    p = hn::Add(p, hn::Div(hn::Mul(negative_step_size, m), denominator));

    masters.store(d, p, i);
    hn::StoreU(m, d, span.m + i);
    hn::StoreU(v, d, span.v + i);
  }
  if (i < span.count) reference::adam(constants, rest_of(span, i));
}

template <class Master, class Gradient>
void update(const AdamConstants& constants, const AdamSpan& span) {
  if (constants.has_l2)
    update<Master, Gradient, true>(constants, span);
  else
    update<Master, Gradient, false>(constants, span);
}

inline void adam(const AdamConstants& constants, const AdamSpan& span) {
  switch (span.precision) {
    case Precision::kFp32: return update<Fp32Master, Fp32Lanes>(constants, span);
    case Precision::kBf16:
      return span.gradient_fp32 ? update<HiLoMaster, Fp32Lanes>(constants, span)
                                : update<HiLoMaster, Bf16Lanes>(constants, span);
    case Precision::kFp16:
      return span.gradient_fp32 ? update<Fp16Master, Fp32Lanes>(constants, span)
                                : update<Fp16Master, Fp16Lanes>(constants, span);
  }
}

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace strata::optim_cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard, once per instruction set
