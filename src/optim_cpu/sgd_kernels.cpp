#include "optim_cpu/highway_targets.h"

// Highway includes this file again for every instruction set that it compiles for.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "optim_cpu/sgd_kernels.cpp"
#include "hwy/foreach_target.h"
//
#include "hwy/highway.h"
#include "optim_cpu/update_kernels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace strata::optim_cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

template <bool kMomentum>
struct SgdRule {
  using Constants = SgdConstants;
  using V = hn::Vec<UpdateTag>;
  static constexpr bool kHasM = kMomentum;
  static constexpr bool kHasV = false;
  static constexpr bool kAppliesGradient = true;

  SgdRule(UpdateTag d, const SgdConstants& k)
      : l2(hn::Set(d, k.l2)),
        momentum(hn::Set(d, k.momentum)),
        gradient_share(hn::Set(d, k.gradient_share)),
        negative_lr(hn::Set(d, k.negative_lr)),
        has_l2(k.has_l2),
        nesterov(k.nesterov) {}

  HWY_INLINE void advance(V& p, V& g, V& m, V& /*v*/) const {
    if (has_l2) g = hn::MulAdd(p, l2, g);
    if constexpr (kMomentum) {
      m = hn::MulAdd(g, gradient_share, hn::Mul(m, momentum));
      g = nesterov ? hn::MulAdd(m, momentum, g) : m;
    }
  }
  HWY_INLINE V apply(V p, V g, V /*m*/, V /*root*/) const { return hn::MulAdd(g, negative_lr, p); }

  V l2, momentum, gradient_share, negative_lr;
  bool has_l2, nesterov;
};

void sgd(const SgdConstants& constants, const UpdateSpan& span) {
  if (constants.has_momentum)
    update_with<SgdRule<true>>(constants, span);
  else
    update_with<SgdRule<false>>(constants, span);
}

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace strata::optim_cpu
HWY_AFTER_NAMESPACE();
