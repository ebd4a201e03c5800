/// \file
/// The random numbers of dither.h over vectors.

#if defined(STRATA_OPTIM_CPU_DITHER_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef STRATA_OPTIM_CPU_DITHER_LANES_INL_H_
#undef STRATA_OPTIM_CPU_DITHER_LANES_INL_H_
#else
#define STRATA_OPTIM_CPU_DITHER_LANES_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "optim_cpu/dither.h"

HWY_BEFORE_NAMESPACE();
namespace strata::optim_cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR

/// Vectors of at most a row of random numbers, which is also the coarse part of a block of moments:
/// a vector is then all coarse or not at all.
using UpdateTag = hn::CappedTag<float, kDitherColumns>;

/// A vector's place in a span: the block that it is in, and the element of that. Apart, so that the
/// compiler sees what the vectors of a block have in common.
struct At {
  std::size_t block, element;
  [[nodiscard]] HWY_INLINE std::size_t index() const { return block + element; }
};

/// dither_bits of the elements of a span that begins with a whole block.
class Dither {
 public:
  Dither(std::uint32_t key, std::uint64_t first_element)
      : base_(key + static_cast<std::uint32_t>(first_element / kDitherBlock) * kDitherColumns) {}

  /// Those of the vector there, of at most kDitherColumns lanes. The vectors of a block share their
  /// hash.
  template <class D>
  HWY_INLINE hn::Vec<hn::RebindToUnsigned<D>> bits(D /*d*/, At at) const {
    const hn::RebindToUnsigned<D> d_bits;
    const std::size_t first =
        at.block / kDitherBlock * kDitherColumns + at.element % kDitherColumns;
    const std::size_t row = at.element / kDitherColumns;
    auto x =
        hn::Add(hn::Iota(d_bits, 0), hn::Set(d_bits, base_ + static_cast<std::uint32_t>(first)));
    x = hn::Mul(hn::Xor(x, hn::ShiftRight<16>(x)), hn::Set(d_bits, kDitherMultiplier1));
    x = hn::Mul(hn::Xor(x, hn::ShiftRight<15>(x)), hn::Set(d_bits, kDitherMultiplier2));
    x = hn::Xor(x, hn::ShiftRight<16>(x));
    if (row == 0) return x;
    return hn::Add(hn::Mul(x, hn::Set(d_bits, kDitherFactor[row])),
                   hn::Set(d_bits, kDitherAddend[row]));
  }

 private:
  std::uint32_t base_;
};

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace strata::optim_cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard, once per instruction set
