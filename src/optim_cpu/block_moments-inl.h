/// \file
/// Vectors of the moments m and v of MomentFormat::kInt8, loaded from and stored to blocks of codes
/// (moment_block.h). moment_reference.cpp does it one number at a time.

#if defined(STRATA_OPTIM_CPU_BLOCK_MOMENTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef STRATA_OPTIM_CPU_BLOCK_MOMENTS_INL_H_
#undef STRATA_OPTIM_CPU_BLOCK_MOMENTS_INL_H_
#else
#define STRATA_OPTIM_CPU_BLOCK_MOMENTS_INL_H_
#endif

#include <cstring>
#include <type_traits>

#include "hwy/highway.h"
#include "optim_cpu/dither_lanes-inl.h"
#include "optim_cpu/moment_block.h"
#include "optim_cpu/number_lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace strata::optim_cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

/// The coding of the moments of a block. It goes through memory, from where a number gets into all
/// lanes of a vector for nothing.
struct BlockCoding {
  /// Parts of a step per unit of the value: for m, for the root; then for coarse codes of both.
  HWY_ALIGN float inverse[4];
  /// Bits of the scale as an fp32 number: of m, of the root, and once more of both.
  HWY_ALIGN std::uint32_t scale[4];
  bool finite = true;  ///< both moments are
};

/// The bit of a scale that each coarse code has, one after the other.
struct ScaleBit {
  constexpr ScaleBit() : of_code() {
    for (std::size_t k = 0; k < kCoarseCodes; ++k) of_code[k] = std::uint32_t{0x10000} << k;
  }
  HWY_ALIGN std::uint32_t of_code[kCoarseCodes];
};
inline constexpr ScaleBit kScaleBit;

/// Signed codes of m, in parts of the scale.
struct CodesOfM {
  using Code = std::int8_t;
  static constexpr std::size_t kPlace = 0;  ///< place in BlockCoding
  static constexpr float kUnit = kUnitOfM;
};

/// Codes of the root of v, from 1.
struct CodesOfRoot {
  using Code = std::uint8_t;
  static constexpr std::size_t kPlace = 1;
  static constexpr float kUnit = kUnitOfV;
};

/// One moment of a span, block by block, for vectors of the tag D. Reading: `begin`, then `load`.
/// Writing: `note` every new value of the block; when its coding is known, `store`, and
/// `store_unusual` where that says that not all are finite.
template <class D, class Codes>
class BlockMoment {
 public:
  using DBits = hn::RebindToUnsigned<D>;

  explicit BlockMoment(void* codes)
      : codes_(static_cast<std::uint8_t*>(codes)), largest_(hn::Zero(DBits())) {}

  HWY_INLINE void begin(std::size_t block) {
    unit_ = scale_of_block(codes_ + block) * Codes::kUnit;
    largest_ = hn::Zero(DBits());
  }

  HWY_INLINE hn::Vec<D> load(At at) const {
    const hn::Rebind<typename Codes::Code, D> d_code;
    const auto codes =
        hn::LoadU(d_code, reinterpret_cast<const typename Codes::Code*>(codes_) + at.index());
    auto wide = hn::PromoteTo(DInt(), codes);
    if (is_coarse(at)) wide = hn::And(wide, hn::Set(DInt(), ~1));
    return hn::Mul(hn::ConvertTo(D(), wide), hn::Set(D(), unit_));
  }

  HWY_INLINE void note(hn::Vec<D> value) {
    auto magnitude = hn::BitCast(DBits(), value);
    // A root has a sign only where it is NaN, which is out of range with it or without.
    if constexpr (kSigned) magnitude = hn::And(magnitude, hn::Set(DBits(), 0x7FFFFFFF));
    largest_ = hn::Max(largest_, magnitude);
  }
  /// A vector with the largest noted magnitude in one of its lanes.
  HWY_INLINE hn::Vec<DBits> largest() const { return largest_; }

  /// `random`: 32 bits of which the upper ones decide. With the coarse codes goes the scale.
  HWY_INLINE void store(hn::Vec<D> value, At at, const BlockCoding& coding,
                        hn::Vec<DBits> random) const {
    const float inverse = coding.inverse[Codes::kPlace + (is_coarse(at) ? 2 : 0)];
    const auto part_of_step = hn::ConvertTo(D(), hn::BitCast(DInt(), random));
    auto parts = hn::MulAdd(value, hn::Set(D(), inverse), part_of_step);
    if constexpr (!kSigned) parts = hn::Max(parts, hn::Set(D(), kPartsOfStep));
    auto code = hn::BitCast(DBits(), hn::Add(parts, hn::Set(D(), kToSteps)));
    if (is_coarse(at)) {
      const auto scale = hn::Set(DBits(), coding.scale[Codes::kPlace]);
      const auto bit = hn::TestBit(scale, hn::LoadU(DBits(), kScaleBit.of_code + at.element));
      code = hn::Or(hn::ShiftLeft<1>(code), hn::IfThenElseZero(bit, hn::Set(DBits(), 1)));
    }
    store_lowest_bytes(code, codes_ + at.index());
  }

  /// Redoes what `store` gets wrong for values that are not finite.
  HWY_INLINE void store_unusual(std::size_t block, const BlockCoding& coding) const {
    const std::uint32_t scale = coding.scale[Codes::kPlace];
    if (scale <= kLargestScale) return;
    std::memset(codes_ + block, 0, kBlock);
    set_scale_of_block(codes_ + block, static_cast<std::uint16_t>(scale >> 16));
  }

 private:
  using DInt = hn::RebindToSigned<D>;
  static constexpr bool kSigned = std::is_signed_v<typename Codes::Code>;

  static HWY_INLINE bool is_coarse(At at) { return at.element < kCoarseCodes; }

  std::uint8_t* codes_;
  float unit_ = 0.0f;
  hn::Vec<DBits> largest_;
};

/// Four lanes, one of which has the largest of all.
template <class V>
HWY_INLINE auto largest_four(V values) {
  const hn::DFromV<V> d;
  if constexpr (hn::MaxLanes(d) > 4) {
    const hn::Half<decltype(d)> half;
    return largest_four(hn::Max(hn::LowerHalf(half, values), hn::UpperHalf(half, values)));
  } else {
    return values;
  }
}

/// scale_for of two moments, from the largest magnitudes of both.
template <class V>
HWY_INLINE void find_coding(V largest_m, V largest_root, BlockCoding& coding) {
  const hn::Full128<std::uint32_t> d;
  const hn::Full128<float> d_float;
  HWY_ALIGN static constexpr float kParts[4] = {kPartsOfM, kPartsOfV, kPartsOfM / 2, kPartsOfV / 2};
  const auto m = largest_four(largest_m);
  const auto root = largest_four(largest_root);
  const auto of_two = hn::Max(hn::InterleaveLower(d, m, root), hn::InterleaveUpper(d, m, root));
  const auto largest = hn::Max(of_two, hn::Shuffle1032(of_two));  // m, root, m, root

  const auto scale = hn::And(hn::Add(largest, hn::Set(d, 0xFFFF)), hn::Set(d, 0xFFFF0000));
  const auto inverse = hn::Div(hn::Load(d_float, kParts), hn::BitCast(d_float, scale));
  hn::Store(scale, d, coding.scale);
  hn::Store(inverse, d_float, coding.inverse);
  coding.finite = true;

  const auto excess = hn::Sub(largest, hn::Set(d, kNegligible));
  const auto is_rare = hn::Gt(excess, hn::Set(d, kLargestScale - kNegligible));
  if (hn::AllFalse(d, is_rare)) [[likely]]
    return;
  HWY_ALIGN std::uint32_t both[4];
  hn::Store(largest, d, both);
  for (const std::size_t place : {CodesOfM::kPlace, CodesOfRoot::kPlace}) {
    const BlockScale rare =
        scale_for(both[place], place == CodesOfM::kPlace ? kPartsOfM : kPartsOfV);
    coding.scale[place] = std::uint32_t{rare.bits} << 16;
    coding.inverse[place] = rare.inverse;
    coding.inverse[place + 2] = rare.inverse / 2;
    coding.finite = coding.finite && rare.finite;
  }
}

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace strata::optim_cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard, once per instruction set
