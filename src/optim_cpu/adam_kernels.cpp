#include "optim_cpu/highway_targets.h"

// Highway includes this file again for every instruction set that it compiles for.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "optim_cpu/adam_kernels.cpp"
#include "hwy/foreach_target.h"
//
#include "hwy/highway.h"
#include "optim_cpu/update_kernels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace strata::optim_cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

template <bool kHasL2>
struct AdamRule {
  using Constants = AdamConstants;
  using V = hn::Vec<UpdateTag>;
  static constexpr bool kHasM = true;
  static constexpr bool kHasV = true;
  static constexpr bool kAppliesGradient = false;

  AdamRule(UpdateTag d, const AdamConstants& k)
      : weight_factor(hn::Set(d, k.weight_factor)),
        l2(hn::Set(d, k.l2)),
        beta1(hn::Set(d, k.beta1)),
        one_minus_beta1(hn::Set(d, k.one_minus_beta1)),
        beta2(hn::Set(d, k.beta2)),
        one_minus_beta2(hn::Set(d, k.one_minus_beta2)),
        root_bias_correction2(hn::Set(d, k.root_bias_correction2)),
        eps(hn::Set(d, k.eps)),
        negative_step_size(hn::Set(d, k.negative_step_size)) {}

  HWY_INLINE void advance(V& p, V& g, V& m, V& v) const {
    p = hn::Mul(p, weight_factor);
    if constexpr (kHasL2) g = hn::MulAdd(p, l2, g);
    m = hn::MulAdd(g, one_minus_beta1, hn::Mul(m, beta1));
    v = hn::MulAdd(hn::Mul(one_minus_beta2, g), g, hn::Mul(v, beta2));
  }
  HWY_INLINE V apply(V p, V /*g*/, V m, V root) const {
    const auto denominator = hn::Add(hn::Div(root, root_bias_correction2), eps);
    return hn::Add(p, hn::Div(hn::Mul(negative_step_size, m), denominator));
  }

  V weight_factor, l2, beta1, one_minus_beta1, beta2, one_minus_beta2;
  V root_bias_correction2, eps, negative_step_size;
};

void adam(const AdamConstants& constants, const UpdateSpan& span) {
  if (constants.has_l2)
    update_with<AdamRule<true>>(constants, span);
  else
    update_with<AdamRule<false>>(constants, span);
}

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace strata::optim_cpu
HWY_AFTER_NAMESPACE();
