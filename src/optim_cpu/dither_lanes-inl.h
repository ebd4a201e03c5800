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
#include "optim_cpu/moment_block.h"

HWY_BEFORE_NAMESPACE();
namespace strata::optim_cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR

/// Vectors of at most a row of random numbers, which is also the coarse part of a block of moments:
/// a vector is then all coarse or not at all.
using UpdateTag = hn::CappedTag<float, kDitherColumns>;
static_assert(kCoarseCodes % kDitherColumns == 0 && kBlock % kDitherBlock == 0);

/// A vector's place in a span: the first element of its block, and its element in the block. They
/// are apart so that the compiler sees what the vectors of a block have in common.
struct At {
  std::size_t block, element;
  [[nodiscard]] HWY_INLINE std::size_t index() const { return block + element; }
  /// The place of the next vector, of the tag `d`.
  template <class D>
  [[nodiscard]] HWY_INLINE At next(D d) const {
    return {block, element + hn::MaxLanes(d)};
  }
};

/// The dither_bits of the elements of a span that begins with a whole block.
class Dither {
 public:
  Dither(std::uint32_t key, std::uint64_t first_element)
      : key_(key), first_block_(first_element / kDitherBlock) {}

  /// The bits of the vector there, of at most kDitherColumns lanes.
  template <class D>
  HWY_INLINE hn::Vec<hn::RebindToUnsigned<D>> bits(D d, At at) const {
    return turned(d, at, at.element / kDitherColumns);
  }
  /// The bits with their halves exchanged. They are those of the row after the next, so that a
  /// block needs no more vectors for both.
  template <class D>
  HWY_INLINE hn::Vec<hn::RebindToUnsigned<D>> exchanged_bits(D d, At at) const {
    return turned(d, at, at.element / kDitherColumns + 2);
  }

 private:
  template <class D>
  HWY_INLINE hn::Vec<hn::RebindToUnsigned<D>> turned(D /*d*/, At at, std::size_t row) const {
    const hn::RebindToUnsigned<D> d_bits;
    const std::uint32_t* factors = kDitherColumn.factor + at.element % kDitherColumns;
    const std::uint32_t hash = dither_block_hash(key_, first_block_ + at.block / kDitherBlock);
    const auto product = hn::Mul(hn::LoadU(d_bits, factors), hn::Set(d_bits, hash));
    const auto x = hn::Xor(product, hn::ShiftRight<16>(product));
    switch (row % kDitherRows) {
      case 0: return x;
      case 1: return hn::RotateRight<24>(x);
      case 2: return hn::RotateRight<16>(x);
      default: return hn::RotateRight<8>(x);
    }
  }

  std::uint32_t key_;
  std::uint64_t first_block_;
};

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace strata::optim_cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard, once per instruction set
