/// \file
/// Vectors of the moments m and v, loaded from and stored to the elementwise formats at rest. One
/// copy per instruction set; update_reference.cpp does it one number at a time.

#if defined(STRATA_OPTIM_CPU_MOMENT_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef STRATA_OPTIM_CPU_MOMENT_LANES_INL_H_
#undef STRATA_OPTIM_CPU_MOMENT_LANES_INL_H_
#else
#define STRATA_OPTIM_CPU_MOMENT_LANES_INL_H_
#endif

#include "hwy/highway.h"
#include "optim_cpu/dither_lanes-inl.h"
#include "optim_cpu/number_lanes-inl.h"
#include "strata/optim_cpu/update.h"

HWY_BEFORE_NAMESPACE();
namespace strata::optim_cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

// Each has, for vectors of the tag D, load_m(at) and load_v(at), which give fp32 values, and the
// inverse, store_m(value, at, dither) and store_v. block_moments-inl.h has the moments that do not
// stand for themselves.

template <class D>
class Fp32Moments {
 public:
  explicit Fp32Moments(const UpdateSpan& span)
      : m_(static_cast<float*>(span.m)), v_(static_cast<float*>(span.v)) {}

  HWY_INLINE hn::Vec<D> load_m(At at) const { return hn::LoadU(D(), m_ + at.index()); }
  HWY_INLINE hn::Vec<D> load_v(At at) const { return hn::LoadU(D(), v_ + at.index()); }
  HWY_INLINE void store_m(hn::Vec<D> value, At at, const Dither& /*dither*/) {
    hn::StoreU(value, D(), m_ + at.index());
  }
  HWY_INLINE void store_v(hn::Vec<D> value, At at, const Dither& /*dither*/) {
    hn::StoreU(value, D(), v_ + at.index());
  }

 private:
  float* m_;
  float* v_;
};

template <class D>
class Bf16Moments {
 public:
  explicit Bf16Moments(const UpdateSpan& span)
      : m_(static_cast<std::uint16_t*>(span.m)), v_(static_cast<std::uint16_t*>(span.v)) {}

  HWY_INLINE hn::Vec<D> load_m(At at) const { return Bf16Lanes::load(D(), m_ + at.index()); }
  HWY_INLINE hn::Vec<D> load_v(At at) const { return Bf16Lanes::load(D(), v_ + at.index()); }
  HWY_INLINE void store_m(hn::Vec<D> value, At at, const Dither& dither) {
    store(value, hn::And(dither.bits(D(), at), hn::Set(DBits(), kLowerHalf)), m_ + at.index());
  }
  HWY_INLINE void store_v(hn::Vec<D> value, At at, const Dither& dither) {
    store(value, hn::ShiftRight<kHalf>(dither.bits(D(), at)), v_ + at.index());
  }

 private:
  using DBits = hn::RebindToUnsigned<D>;

  static HWY_INLINE void store(hn::Vec<D> value, hn::Vec<DBits> random, std::uint16_t* at) {
    const auto bits = hn::BitCast(DBits(), with_quiet_nan(value));
    store_low(hn::ShiftRight<16>(hn::Add(bits, random)), at);
  }

  std::uint16_t* m_;
  std::uint16_t* v_;
};

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace strata::optim_cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard, once per instruction set
