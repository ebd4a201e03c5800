#include "optim_cpu/highway_targets.h"

// Highway includes this file again for every instruction set that it compiles for.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "optim_cpu/lion_kernels.cpp"
#include "hwy/foreach_target.h"
//
#include "hwy/highway.h"
#include "optim_cpu/update_kernels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace strata::optim_cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

struct LionRule {
  using Constants = LionConstants;
  using V = hn::Vec<UpdateTag>;
  static constexpr bool kHasM = true;
  static constexpr bool kHasV = false;
  static constexpr bool kAppliesGradient = false;

  LionRule(UpdateTag d, const LionConstants& k)
      : weight_factor(hn::Set(d, k.weight_factor)),
        beta1(hn::Set(d, k.beta1)),
        one_minus_beta1(hn::Set(d, k.one_minus_beta1)),
        beta2(hn::Set(d, k.beta2)),
        one_minus_beta2(hn::Set(d, k.one_minus_beta2)),
        lr(hn::Set(d, k.lr)) {}

  HWY_INLINE void advance(V& p, V& g, V& m, V& /*v*/) const {
    p = hn::Mul(p, weight_factor);
    const auto direction = hn::MulAdd(g, one_minus_beta1, hn::Mul(m, beta1));
    const auto zero = hn::Zero(UpdateTag());
    p = hn::IfThenElse(hn::Gt(direction, zero), hn::Sub(p, lr), p);
    p = hn::IfThenElse(hn::Lt(direction, zero), hn::Add(p, lr), p);
    m = hn::MulAdd(g, one_minus_beta2, hn::Mul(m, beta2));
  }
  HWY_INLINE V apply(V p, V /*g*/, V /*m*/, V /*root*/) const { return p; }

  V weight_factor, beta1, one_minus_beta1, beta2, one_minus_beta2, lr;
};

void lion(const LionConstants& constants, const UpdateSpan& span) {
  update_with<LionRule>(constants, span);
}

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace strata::optim_cpu
HWY_AFTER_NAMESPACE();
