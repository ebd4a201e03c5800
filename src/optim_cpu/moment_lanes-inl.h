/// \file
/// Vectors of the moments m and v, loaded from and stored to the elementwise formats at rest. One
/// copy per instruction set; moment_reference.cpp does it one number at a time.

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

// Each has, for vectors of the tag D, kRounds, load_m(at) and load_v(at), which give fp32 values,
// and the inverse for two vectors, store_m<nan>(first, second, at, dither) and store_v.
// block_moments-inl.h has the moments that do not stand for themselves.

template <class D>
class Fp32Moments {
 public:
  static constexpr bool kRounds = false;

  explicit Fp32Moments(const UpdateSpan& span)
      : m_(static_cast<float*>(span.m)), v_(static_cast<float*>(span.v)) {}

  HWY_INLINE hn::Vec<D> load_m(At at) const { return hn::LoadU(D(), m_ + at.index()); }
  HWY_INLINE hn::Vec<D> load_v(At at) const { return hn::LoadU(D(), v_ + at.index()); }
  template <Nan>
  HWY_INLINE void store_m(hn::Vec<D> first, hn::Vec<D> second, At at, const Dither&) const {
    store(first, second, m_ + at.index());
  }
  template <Nan>
  HWY_INLINE void store_v(hn::Vec<D> first, hn::Vec<D> second, At at, const Dither&) const {
    store(first, second, v_ + at.index());
  }

 private:
  static HWY_INLINE void store(hn::Vec<D> first, hn::Vec<D> second, float* at) {
    hn::StoreU(first, D(), at);
    hn::StoreU(second, D(), at + hn::MaxLanes(D()));
  }

  float* m_;
  float* v_;
};

template <class D>
class Bf16Moments {
 public:
  static constexpr bool kRounds = true;

  explicit Bf16Moments(const UpdateSpan& span)
      : m_(static_cast<std::uint16_t*>(span.m)), v_(static_cast<std::uint16_t*>(span.v)) {}

  HWY_INLINE hn::Vec<D> load_m(At at) const { return Bf16Lanes::load(D(), m_ + at.index()); }
  HWY_INLINE hn::Vec<D> load_v(At at) const { return Bf16Lanes::load(D(), v_ + at.index()); }
  template <Nan kNan>
  HWY_INLINE void store_m(hn::Vec<D> first, hn::Vec<D> second, At at, const Dither& dither) const {
    const auto lower_half = hn::Set(DBits(), kLowerHalf);
    const auto a = hn::And(dither.bits(D(), at), lower_half);
    const auto b = hn::And(dither.bits(D(), at.next(D())), lower_half);
    store_upper(hn::Add(bits_of<kNan>(first), a), hn::Add(bits_of<kNan>(second), b),
                m_ + at.index());
  }
  template <Nan kNan>
  HWY_INLINE void store_v(hn::Vec<D> first, hn::Vec<D> second, At at, const Dither& dither) const {
    const auto a = hn::ShiftRight<kHalf>(dither.bits(D(), at));
    const auto b = hn::ShiftRight<kHalf>(dither.bits(D(), at.next(D())));
    store_upper(hn::Add(bits_of<kNan>(first), a), hn::Add(bits_of<kNan>(second), b),
                v_ + at.index());
  }

 private:
  using DBits = hn::RebindToUnsigned<D>;

  std::uint16_t* m_;
  std::uint16_t* v_;
};

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace strata::optim_cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard, once per instruction set
