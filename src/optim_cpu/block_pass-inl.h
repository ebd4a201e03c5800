/// \file
/// The pass over memory of update_kernels-inl.h where moments rest in blocks that share a scale.

#if defined(STRATA_OPTIM_CPU_BLOCK_PASS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef STRATA_OPTIM_CPU_BLOCK_PASS_INL_H_
#undef STRATA_OPTIM_CPU_BLOCK_PASS_INL_H_
#else
#define STRATA_OPTIM_CPU_BLOCK_PASS_INL_H_
#endif

#include <utility>

#include "hwy/highway.h"
#include "optim_cpu/block_moments-inl.h"
#include "optim_cpu/master_lanes-inl.h"
#include "optim_cpu/rule_constants.h"

HWY_BEFORE_NAMESPACE();
namespace strata::optim_cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

/// What is known of a block between its two halves.
struct HeldBlock {
  HWY_ALIGN float p[kBlock];
  HWY_ALIGN float g[kBlock];
  HWY_ALIGN float m[kBlock];
  HWY_ALIGN float root[kBlock];
};

/// A block is updated in two halves: `advance` makes the new moments and finds their scales,
/// `retire` writes the moments and makes the new masters. The second half of a block runs after the
/// first half of the next: the way from a gradient to a code is long, and a processor looks ahead
/// only so far for other work.
template <class Rule, class Master, class Gradient>
class BlockPass {
 public:
  /// `scratch`: two, apart from the pass itself so that this can live in registers.
  BlockPass(const typename Rule::Constants& constants, const UpdateSpan& span, HeldBlock* scratch)
      : rule_(UpdateTag(), constants),
        masters_(span),
        m_(span.m),
        root_(span.v),
        gradients_(static_cast<const typename Gradient::Value*>(span.gradient)),
        gradient_scale_(hn::Set(UpdateTag(), constants.gradient_scale)),
        dither_(make_dither_key(span.stream, constants.step_number), span.first_element),
        advanced_(&scratch[0]),
        waiting_(&scratch[1]) {}

  HWY_INLINE void run(std::size_t count) {
    if (count == 0) return;
    advance(0);
    for (std::size_t block = kBlock; block < count; block += kBlock) {
      const Scales scales = turn();
      advance(block);
      retire(block - kBlock, scales);
    }
    const Scales scales = turn();
    retire(count - kBlock, scales);
  }

 private:
  static constexpr std::size_t kLanes = hn::MaxLanes(UpdateTag());

  struct Scales {
    BlockScale m, root;
  };

  /// The block that has been advanced waits from now on.
  HWY_INLINE Scales turn() {
    std::swap(advanced_, waiting_);
    Scales scales{};
    if constexpr (Rule::kHasM) scales.m = m_.scale();
    if constexpr (Rule::kHasV) scales.root = root_.scale();
    return scales;
  }

  HWY_INLINE void advance(std::size_t block) {
    if constexpr (Rule::kHasM) m_.begin(block);
    if constexpr (Rule::kHasV) root_.begin(block);
    HWY_UNROLL(16)
    for (std::size_t k = 0; k < kCoarseCodes; k += kLanes) advance_vector<true>({block, k});
    HWY_UNROLL(16)
    for (std::size_t k = kCoarseCodes; k < kBlock; k += kLanes) advance_vector<false>({block, k});
  }

  template <bool kCoarse>
  HWY_INLINE void advance_vector(At at) {
    const UpdateTag d;
    auto p = masters_.load(d, at.index());
    auto g = hn::Mul(Gradient::load(d, gradients_ + at.index()), gradient_scale_);
    auto m = hn::Zero(d);
    auto v = hn::Zero(d);
    if constexpr (Rule::kHasM) m = m_.template load<kCoarse>(at);
    if constexpr (Rule::kHasV) {
      const auto root = root_.template load<kCoarse>(at);
      v = hn::Mul(root, root);
    }
    rule_.advance(p, g, m, v);
    hn::Store(p, d, advanced_->p + at.element);
    if constexpr (Rule::kAppliesGradient) hn::Store(g, d, advanced_->g + at.element);
    if constexpr (Rule::kHasM) {
      m_.note(m);
      hn::Store(m, d, advanced_->m + at.element);
    }
    if constexpr (Rule::kHasV) {
      const auto root = hn::Sqrt(v);
      root_.note(root);
      hn::Store(root, d, advanced_->root + at.element);
    }
  }

  HWY_INLINE void retire(std::size_t block, const Scales& scales) {
    HWY_UNROLL(16)
    for (std::size_t k = 0; k < kCoarseCodes; k += kLanes) {
      retire_vector<true>({block, k}, scales);
    }
    HWY_UNROLL(16)
    for (std::size_t k = kCoarseCodes; k < kBlock; k += kLanes) {
      retire_vector<false>({block, k}, scales);
    }
    if constexpr (Rule::kHasM) m_.finish(block, scales.m);
    if constexpr (Rule::kHasV) root_.finish(block, scales.root);
  }

  template <bool kCoarse>
  HWY_INLINE void retire_vector(At at, const Scales& scales) {
    const UpdateTag d;
    const auto p = hn::Load(d, waiting_->p + at.element);
    auto g = hn::Zero(d);
    auto m = hn::Zero(d);
    auto root = hn::Zero(d);
    if constexpr (Rule::kAppliesGradient) g = hn::Load(d, waiting_->g + at.element);
    if constexpr (Rule::kHasM) m = hn::Load(d, waiting_->m + at.element);
    if constexpr (Rule::kHasV) root = hn::Load(d, waiting_->root + at.element);
    masters_.store(d, rule_.apply(p, g, m, root), at, dither_);
    if constexpr (Rule::kHasM) {
      m_.template store<kCoarse>(m, at, scales.m, hn::ShiftLeft<kHalf>(dither_.bits(d, at)));
    }
    if constexpr (Rule::kHasV) {
      root_.template store<kCoarse>(root, at, scales.root, dither_.bits(d, at));
    }
  }

  Rule rule_;
  Master masters_;
  BlockMoment<UpdateTag, CodesOfM> m_;
  BlockMoment<UpdateTag, CodesOfRoot> root_;
  const typename Gradient::Value* gradients_;
  hn::Vec<UpdateTag> gradient_scale_;
  Dither dither_;
  HeldBlock* advanced_;
  HeldBlock* waiting_;
};

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace strata::optim_cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard, once per instruction set
