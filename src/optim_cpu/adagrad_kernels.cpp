#include "optim_cpu/highway_targets.h"

// Highway includes this file again for every instruction set that it compiles for.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "optim_cpu/adagrad_kernels.cpp"
#include "hwy/foreach_target.h"
//
#include "hwy/highway.h"
#include "optim_cpu/update_kernels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace strata::optim_cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

struct AdagradRule {
  using Constants = AdagradConstants;
  using V = hn::Vec<UpdateTag>;
  static constexpr bool kHasM = false;
  static constexpr bool kHasV = true;
  static constexpr bool kAppliesGradient = true;

  AdagradRule(UpdateTag d, const AdagradConstants& k)
      : l2(hn::Set(d, k.l2)),
        eps(hn::Set(d, k.eps)),
        negative_step_size(hn::Set(d, k.negative_step_size)),
        has_l2(k.has_l2) {}

  HWY_INLINE void advance(V& p, V& g, V& /*m*/, V& v) const {
    if (has_l2) g = hn::MulAdd(p, l2, g);
    v = hn::MulAdd(g, g, v);
  }
  HWY_INLINE V apply(V p, V g, V /*m*/, V root) const {
    return hn::Add(p, hn::Div(hn::Mul(negative_step_size, g), hn::Add(root, eps)));
  }

  V l2, eps, negative_step_size;
  bool has_l2;
};

void adagrad(const AdagradConstants& constants, const UpdateSpan& span) {
  update_with<AdagradRule>(constants, span);
}

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace strata::optim_cpu
HWY_AFTER_NAMESPACE();
