/// \file
/// The pass over memory of update_kernels-inl.h where moments rest in blocks that share a scale.

#if defined(STRATA_OPTIM_CPU_BLOCK_PASS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef STRATA_OPTIM_CPU_BLOCK_PASS_INL_H_
#undef STRATA_OPTIM_CPU_BLOCK_PASS_INL_H_
#else
#define STRATA_OPTIM_CPU_BLOCK_PASS_INL_H_
#endif

#include <cstddef>

#include "hwy/highway.h"
#include "optim_cpu/block_moments-inl.h"
#include "optim_cpu/master_lanes-inl.h"
#include "optim_cpu/rule_constants.h"

HWY_BEFORE_NAMESPACE();
namespace strata::optim_cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

/// The facts of a block between its two halves.
struct HeldBlock {
  HWY_ALIGN float p[kBlock];
  HWY_ALIGN float g[kBlock];
  HWY_ALIGN float m[kBlock];
  HWY_ALIGN float root[kBlock];
  BlockCoding coding;
};
using HeldBlocks = HeldBlock[3];

/// A block is updated in two halves: `advance` makes the new moments and finds their coding,
/// `retire` writes the moments and makes the new masters. The second half of a block runs between
/// the vectors of the first half of the block after the next: the way from a gradient to a code is
/// long, and a processor looks ahead only so far for other work.
template <class Rule, class Master, class Gradient>
class BlockPass {
 public:
  /// `held` is apart from the pass itself so that the pass can live in registers.
  BlockPass(const typename Rule::Constants& constants, const UpdateSpan& span, HeldBlocks& held)
      : rule_(UpdateTag(), constants),
        masters_(span),
        m_(span.m),
        root_(span.v),
        gradients_(static_cast<const typename Gradient::Value*>(span.gradient)),
        gradient_scale_(hn::Set(UpdateTag(), constants.gradient_scale)),
        dither_(make_dither_key(span.sequence, constants.step_number), span.first_element),
        advanced_(&held[0]),
        between_(&held[1]),
        retired_(&held[2]) {}

  HWY_INLINE void run(std::size_t count) {
    std::size_t block = 0;
    for (; block < kDistance; block += kBlock) {
      if (block < count) step<true, false>(block);
      turn();
    }
    for (; block < count; block += kBlock) {
      step<true, true>(block);
      turn();
    }
    for (; block < count + kDistance; block += kBlock) {
      step<false, true>(block);
      turn();
    }
  }

 private:
  using V = hn::Vec<UpdateTag>;
  static constexpr std::size_t kLanes = hn::MaxLanes(UpdateTag());
  static constexpr std::size_t kDistance = 2 * kBlock;

  HWY_INLINE void turn() {
    HeldBlock* const free = retired_;
    retired_ = between_;
    between_ = advanced_;
    advanced_ = free;
  }

  /// Advances the block that begins at `block`, and retires the one that lies kDistance before it.
  template <bool kAdvances, bool kRetires>
  HWY_INLINE void step(std::size_t block) {
    if constexpr (kAdvances && Rule::kHasM) m_.begin(block);
    if constexpr (kAdvances && Rule::kHasV) root_.begin(block);
    const UpdateTag d;
    const std::size_t old = block - kDistance;
    auto sum = hn::Zero(d);
    HWY_UNROLL(16)
    for (std::size_t k = 0; k < kBlock; k += 2 * kLanes) {
      if constexpr (kAdvances) advance({block, k});
      V first{};
      if constexpr (kRetires) first = retire({old, k});
      if constexpr (kAdvances) advance({block, k + kLanes});
      if constexpr (kRetires) {
        const V second = retire({old, k + kLanes});
        // Assumes that there is no NaN; where there is one, retire_unusual does it again.
        masters_.template store<Nan::kNone>(d, first, second, {old, k}, dither_);
        sum = hn::Add(sum, hn::Add(first, second));
      }
    }
    if constexpr (kRetires) {
      const bool is_usual = retired_->coding.finite && (!Master::kRounds || without_nan(sum));
      if (!is_usual) [[unlikely]]
        retire_unusual(old);
    }
    if constexpr (kAdvances) find_coding();
  }

  HWY_INLINE void advance(At at) {
    const UpdateTag d;
    auto p = masters_.load(d, at.index());
    auto g = hn::Mul(Gradient::load(d, gradients_ + at.index()), gradient_scale_);
    auto m = hn::Zero(d);
    auto v = hn::Zero(d);
    if constexpr (Rule::kHasM) m = m_.load(at);
    if constexpr (Rule::kHasV) {
      const auto root = root_.load(at);
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

  /// Stores the moments; returns the masters.
  HWY_INLINE V retire(At at) const {
    const UpdateTag d;
    const HeldBlock& held = *retired_;
    if constexpr (Rule::kHasM) {
      const auto m = hn::Load(d, held.m + at.element);
      m_.store(m, at, held.coding, dither_.exchanged_bits(d, at));
    }
    if constexpr (Rule::kHasV) {
      const auto root = hn::Load(d, held.root + at.element);
      root_.store(root, at, held.coding, dither_.bits(d, at));
    }
    return new_masters(at.element);
  }

  HWY_INLINE V new_masters(std::size_t k) const {
    const UpdateTag d;
    const auto p = hn::Load(d, retired_->p + k);
    auto g = hn::Zero(d);
    auto m = hn::Zero(d);
    auto root = hn::Zero(d);
    if constexpr (Rule::kAppliesGradient) g = hn::Load(d, retired_->g + k);
    if constexpr (Rule::kHasM) m = hn::Load(d, retired_->m + k);
    if constexpr (Rule::kHasV) root = hn::Load(d, retired_->root + k);
    return rule_.apply(p, g, m, root);
  }

  /// Repeats what `retire` does for a block that has NaN among its masters or moments that are not
  /// finite, with the care that those need.
  HWY_INLINE void retire_unusual(std::size_t block) {
    const UpdateTag d;
    for (std::size_t k = 0; k < kBlock; k += 2 * kLanes) {
      const V first = new_masters(k);
      const V second = new_masters(k + kLanes);
      masters_.template store<Nan::kPossible>(d, first, second, {block, k}, dither_);
    }
    if constexpr (Rule::kHasM) m_.store_unusual(block, retired_->coding);
    if constexpr (Rule::kHasV) root_.store_unusual(block, retired_->coding);
  }

  HWY_INLINE void find_coding() const {
    if constexpr (Rule::kHasM && Rule::kHasV) {
      HWY_NAMESPACE::find_coding(m_.largest(), root_.largest(), advanced_->coding);
    } else if constexpr (Rule::kHasM) {
      // One moment stands for both: the other has no coding.
      HWY_NAMESPACE::find_coding(m_.largest(), m_.largest(), advanced_->coding);
    } else if constexpr (Rule::kHasV) {
      HWY_NAMESPACE::find_coding(root_.largest(), root_.largest(), advanced_->coding);
    }
  }

  Rule rule_;
  Master masters_;
  BlockMoment<UpdateTag, CodesOfM> m_;
  BlockMoment<UpdateTag, CodesOfRoot> root_;
  const typename Gradient::Value* gradients_;
  V gradient_scale_;
  Dither dither_;
  HeldBlock* advanced_;
  HeldBlock* between_;
  HeldBlock* retired_;
};

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace strata::optim_cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard, once per instruction set
