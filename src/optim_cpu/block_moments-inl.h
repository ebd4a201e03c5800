/// \file
/// Vectors of the moments m and v of MomentFormat::kInt8, loaded from and stored to blocks of codes
/// (moment_block.h). moment_reference.cpp does it one number at a time.

#if defined(STRATA_OPTIM_CPU_BLOCK_MOMENTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef STRATA_OPTIM_CPU_BLOCK_MOMENTS_INL_H_
#undef STRATA_OPTIM_CPU_BLOCK_MOMENTS_INL_H_
#else
#define STRATA_OPTIM_CPU_BLOCK_MOMENTS_INL_H_
#endif

#include "hwy/highway.h"
#include "optim_cpu/dither_lanes-inl.h"
#include "optim_cpu/moment_block.h"
#include "optim_cpu/number_lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace strata::optim_cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

/// Signed codes of m: parts of the scale.
struct CodesOfM {
  using Code = std::int8_t;
  static constexpr float kUnit = kUnitOfM;
  static constexpr float kCodes = kCodesOfM;
};

/// Codes of the root of v, from 1.
struct CodesOfRoot {
  using Code = std::uint8_t;
  static constexpr float kUnit = kUnitOfV;
  static constexpr float kCodes = kCodesOfV;
};

/// One moment of a span, block by block, for vectors of the tag D. Reading: `begin`, then `load`.
/// Writing: `note` every new value of the block, `scale`, then `store` under that scale, and
/// `finish`.
template <class D, class Codes>
class BlockMoment {
 public:
  explicit BlockMoment(void* codes)
      : codes_(static_cast<std::uint8_t*>(codes)), largest_(hn::Zero(DBits())) {}

  HWY_INLINE void begin(std::size_t block) {
    unit_ = scale_of_block(codes_ + block) * Codes::kUnit;
    largest_ = hn::Zero(DBits());
  }

  /// kCoarse: among the block's kCoarseCodes.
  template <bool kCoarse>
  HWY_INLINE hn::Vec<D> load(At at) const {
    const hn::Rebind<typename Codes::Code, D> d_code;
    const auto codes =
        hn::LoadU(d_code, reinterpret_cast<const typename Codes::Code*>(codes_) + at.index());
    auto wide = hn::PromoteTo(DInt(), codes);
    if constexpr (kCoarse) wide = hn::And(wide, hn::Set(DInt(), ~1));
    return hn::Mul(hn::ConvertTo(D(), wide), hn::Set(D(), unit_));
  }

  HWY_INLINE void note(hn::Vec<D> value) {
    const auto magnitude = hn::And(hn::BitCast(DBits(), value), hn::Set(DBits(), 0x7FFFFFFF));
    largest_ = hn::Max(largest_, magnitude);
  }

  [[nodiscard]] HWY_INLINE BlockScale scale() const {
    return scale_for(hn::GetLane(hn::MaxOfLanes(DBits(), largest_)), Codes::kCodes);
  }

  /// `random`: 32 bits of which the upper ones decide.
  template <bool kCoarse>
  HWY_INLINE void store(hn::Vec<D> value, At at, const BlockScale& scale,
                        hn::Vec<hn::RebindToUnsigned<D>> random) {
    constexpr float kSteps = kCoarse ? 0.5f : 1.0f;  // of a code
    const auto part_of_step = hn::ConvertTo(D(), hn::BitCast(DInt(), random));
    auto parts = hn::MulAdd(value, hn::Set(D(), scale.inverse * kSteps), part_of_step);
    if constexpr (std::is_unsigned_v<typename Codes::Code>) {
      parts = hn::Max(parts, hn::Set(D(), kPartsOfStep));
    }
    const auto steps = hn::BitCast(DBits(), hn::Add(parts, hn::Set(D(), kToSteps)));
    store_low(kCoarse ? hn::ShiftLeft<1>(steps) : steps, codes_ + at.index());
  }

  HWY_INLINE void finish(std::size_t block, const BlockScale& scale) {
    if (!scale.finite) std::memset(codes_ + block, 0, kBlock);
    set_scale_of_block(codes_ + block, scale.bits);
  }

 private:
  using DBits = hn::RebindToUnsigned<D>;
  using DInt = hn::RebindToSigned<D>;

  std::uint8_t* codes_;
  float unit_ = 0.0f;
  hn::Vec<DBits> largest_;
};

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace strata::optim_cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard, once per instruction set
