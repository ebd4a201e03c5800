/// \file
/// The pass over memory that all rules share: reads every state once, writes every state once.
/// A rule is a struct with
///
///   Constants                  its scalars
///   kHasM, kHasV               the moments that it keeps
///   kAppliesGradient           whether apply looks at g
///   Rule(d, constants)         its scalars as vectors of the tag d
///   advance(p, g, m, v)        the formula up to the new moments
///   apply(p, g, m, root)       the rest: the new master; `root` is that of v
///
/// update_reference.cpp has the formulas one number at a time.

#if defined(STRATA_OPTIM_CPU_UPDATE_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef STRATA_OPTIM_CPU_UPDATE_KERNELS_INL_H_
#undef STRATA_OPTIM_CPU_UPDATE_KERNELS_INL_H_
#else
#define STRATA_OPTIM_CPU_UPDATE_KERNELS_INL_H_
#endif

#include "hwy/highway.h"
#include "optim_cpu/block_pass-inl.h"
#include "optim_cpu/kernel_spans.h"
#include "optim_cpu/master_lanes-inl.h"
#include "optim_cpu/moment_lanes-inl.h"
#include "optim_cpu/reference_kernels.h"
#include "optim_cpu/rule_constants.h"

HWY_BEFORE_NAMESPACE();
namespace strata::optim_cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

template <class Rule, class Master, class Gradient, class Moments>
class ElementwisePass {
 public:
  ElementwisePass(const typename Rule::Constants& constants, const UpdateSpan& span)
      : rule_(UpdateTag(), constants),
        masters_(span),
        moments_(span),
        gradients_(static_cast<const typename Gradient::Value*>(span.gradient)),
        gradient_scale_(hn::Set(UpdateTag(), constants.gradient_scale)),
        dither_(make_dither_key(span.sequence, constants.step_number), span.first_element) {}

  /// Returns the number of updated elements: all but a rest that is shorter than two vectors.
  HWY_INLINE std::size_t run(std::size_t count) {
    constexpr std::size_t kTwo = 2 * hn::MaxLanes(UpdateTag());
    std::size_t block = 0;
    for (; block + kBlock <= count; block += kBlock) {
      HWY_UNROLL(16)
      for (std::size_t k = 0; k < kBlock; k += kTwo) two_vectors({block, k});
    }
    std::size_t k = 0;
    for (; block + k + kTwo <= count; k += kTwo) two_vectors({block, k});
    return block + k;
  }

 private:
  using V = hn::Vec<UpdateTag>;

  struct Updated {
    V p, m, v;
  };

  HWY_INLINE void two_vectors(At at) {
    const Updated a = updated(at);
    const Updated b = updated(at.next(UpdateTag()));
    if (are_numbers(a, b)) [[likely]] {
      store<Nan::kNone>(a, b, at);
    } else {
      store<Nan::kPossible>(a, b, at);
    }
  }

  HWY_INLINE Updated updated(At at) const {
    const UpdateTag d;
    auto p = masters_.load(d, at.index());
    auto g = hn::Mul(Gradient::load(d, gradients_ + at.index()), gradient_scale_);
    auto m = hn::Zero(d);
    auto v = hn::Zero(d);
    if constexpr (Rule::kHasM) m = moments_.load_m(at);
    if constexpr (Rule::kHasV) v = moments_.load_v(at);
    rule_.advance(p, g, m, v);
    auto root = hn::Zero(d);
    if constexpr (Rule::kHasV) root = hn::Sqrt(v);
    return {rule_.apply(p, g, m, root), m, v};
  }

  static HWY_INLINE bool are_numbers(const Updated& a, const Updated& b) {
    if constexpr (Moments::kRounds) return without_nan(a.p, b.p, a.m, b.m, a.v, b.v);
    if constexpr (Master::kRounds) return without_nan(a.p, b.p);
    return true;
  }

  template <Nan kNan>
  HWY_INLINE void store(const Updated& a, const Updated& b, At at) const {
    masters_.template store<kNan>(UpdateTag(), a.p, b.p, at, dither_);
    if constexpr (Rule::kHasM) moments_.template store_m<kNan>(a.m, b.m, at, dither_);
    if constexpr (Rule::kHasV) moments_.template store_v<kNan>(a.v, b.v, at, dither_);
  }

  Rule rule_;
  Master masters_;
  Moments moments_;
  const typename Gradient::Value* gradients_;
  hn::Vec<UpdateTag> gradient_scale_;
  Dither dither_;
};

template <class Rule, class Master, class Gradient, class Moments>
void update_elements(const typename Rule::Constants& constants, const UpdateSpan& span) {
  ElementwisePass<Rule, Master, Gradient, Moments> pass(constants, span);
  const std::size_t updated = pass.run(span.count);
  if (updated < span.count) reference::update(constants, rest_of(span, updated));
}

template <class Rule, class Master, class Gradient>
void update_blocks(const typename Rule::Constants& constants, const UpdateSpan& span) {
  HeldBlocks held;
  BlockPass<Rule, Master, Gradient>(constants, span, held).run(span.count);
}

template <class Rule, class Master, class Gradient>
void update_moments(const typename Rule::Constants& constants, const UpdateSpan& span) {
  switch (span.format.moments) {
    case MomentFormat::kFp32:
      return update_elements<Rule, Master, Gradient, Fp32Moments<UpdateTag>>(constants, span);
    case MomentFormat::kBf16:
      return update_elements<Rule, Master, Gradient, Bf16Moments<UpdateTag>>(constants, span);
    case MomentFormat::kInt8: return update_blocks<Rule, Master, Gradient>(constants, span);
  }
}

template <class Rule, class Master>
void update_gradient(const typename Rule::Constants& constants, const UpdateSpan& span) {
  switch (span.gradient_format) {
    case Precision::kFp32: return update_moments<Rule, Master, Fp32Lanes>(constants, span);
    case Precision::kBf16: return update_moments<Rule, Master, Bf16Lanes>(constants, span);
    case Precision::kFp16: return update_moments<Rule, Master, Fp16Lanes>(constants, span);
  }
}

/// The pass of `Rule` over a span of any format.
template <class Rule>
void update_with(const typename Rule::Constants& constants, const UpdateSpan& span) {
  switch (span.format.precision) {
    case Precision::kFp32: return update_gradient<Rule, Fp32Master>(constants, span);
    case Precision::kBf16:
      return span.format.master == MasterFormat::k24Bit
                 ? update_gradient<Rule, HiLo24Master>(constants, span)
                 : update_gradient<Rule, HiLoMaster>(constants, span);
    case Precision::kFp16: return update_gradient<Rule, Fp16Master>(constants, span);
  }
}

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace strata::optim_cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard, once per instruction set
