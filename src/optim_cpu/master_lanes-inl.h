/// \file
/// Vectors of fp32 masters, loaded from and stored to the weight and its remainder. One
/// copy per instruction set; number_conversions.h has the same conversions one number at a time.

#if defined(STRATA_OPTIM_CPU_MASTER_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef STRATA_OPTIM_CPU_MASTER_LANES_INL_H_
#undef STRATA_OPTIM_CPU_MASTER_LANES_INL_H_
#else
#define STRATA_OPTIM_CPU_MASTER_LANES_INL_H_
#endif

#include "hwy/highway.h"
#include "optim_cpu/dither_lanes-inl.h"
#include "optim_cpu/number_lanes-inl.h"
#include "strata/optim_cpu/update.h"

HWY_BEFORE_NAMESPACE();
namespace strata::optim_cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

// Each has
//   kRounds                            whether it rounds bits away, so that `nan` matters
//   load(d, i)                         the masters of elements [i, i + lanes)
//   store<nan>(d, a, b, at, dither)    the inverse, of two vectors; `dither` gives random bits to
//                                      those that round by them

/// The weight is the master.
class Fp32Master {
 public:
  static constexpr bool kRounds = false;

  explicit Fp32Master(const UpdateSpan& span) : weight_(static_cast<float*>(span.weight)) {}

  template <class D>
  HWY_INLINE hn::Vec<D> load(D d, std::size_t i) const {
    return Fp32Lanes::load(d, weight_ + i);
  }
  template <Nan, class D>
  HWY_INLINE void store(D d, hn::Vec<D> first, hn::Vec<D> second, At at, const Dither&) const {
    Fp32Lanes::store(d, first, weight_ + at.index());
    Fp32Lanes::store(d, second, weight_ + at.index() + hn::MaxLanes(d));
  }

 private:
  float* weight_;
};

/// bf16 `hi` and int16 `lo`.
class HiLoMaster {
 public:
  static constexpr bool kRounds = true;

  explicit HiLoMaster(const UpdateSpan& span)
      : hi_(static_cast<std::uint16_t*>(span.weight)),
        lo_(static_cast<std::uint16_t*>(span.master)) {}

  template <class D>
  HWY_INLINE hn::Vec<D> load(D d, std::size_t i) const {
    const hn::RebindToSigned<D> d_bits;
    const auto hi = hn::PromoteTo(d_bits, hn::LoadU(hn::Rebind<std::uint16_t, D>(), hi_ + i));
    const hn::Rebind<std::int16_t, D> d_lo;
    const auto lo = hn::LoadU(d_lo, reinterpret_cast<const std::int16_t*>(lo_ + i));
    return hn::BitCast(d, hn::Add(hn::ShiftLeft<16>(hi), hn::PromoteTo(d_bits, lo)));
  }
  template <Nan kNan, class D>
  HWY_INLINE void store(D /*d*/, hn::Vec<D> first, hn::Vec<D> second, At at, const Dither&) const {
    const auto half = hn::Set(hn::RebindToUnsigned<D>(), 0x8000);
    const auto a = bits_of<kNan>(first);
    const auto b = bits_of<kNan>(second);
    store_upper(hn::Add(a, half), hn::Add(b, half), hi_ + at.index());
    store_lower(a, b, lo_ + at.index());  // the rest after hi, modulo 2^16
  }

 private:
  std::uint16_t* hi_;
  std::uint16_t* lo_;  // int16
};

/// bf16 `hi` and int8 `lo`.
class HiLo24Master {
 public:
  static constexpr bool kRounds = true;

  explicit HiLo24Master(const UpdateSpan& span)
      : hi_(static_cast<std::uint16_t*>(span.weight)),
        lo_(static_cast<std::uint8_t*>(span.master)) {}

  template <class D>
  HWY_INLINE hn::Vec<D> load(D d, std::size_t i) const {
    const hn::RebindToSigned<D> d_bits;
    const auto hi = hn::PromoteTo(d_bits, hn::LoadU(hn::Rebind<std::uint16_t, D>(), hi_ + i));
    const hn::Rebind<std::int8_t, D> d_lo;
    const auto lo = hn::LoadU(d_lo, reinterpret_cast<const std::int8_t*>(lo_ + i));
    return hn::BitCast(d,
                       hn::Add(hn::ShiftLeft<16>(hi), hn::ShiftLeft<8>(hn::PromoteTo(d_bits, lo))));
  }
  template <Nan kNan, class D>
  HWY_INLINE void store(D d, hn::Vec<D> first, hn::Vec<D> second, At at,
                        const Dither& dither) const {
    const auto half = hn::Set(hn::RebindToUnsigned<D>(), 0x8000);
    const At next = at.next(d);
    const auto a = hn::Add(bits_of<kNan>(first), random(d, at, dither));
    const auto b = hn::Add(bits_of<kNan>(second), random(d, next, dither));
    // The lowest byte of the sums is left out: it changes neither of the others.
    store_upper(hn::Add(a, half), hn::Add(b, half), hi_ + at.index());
    // The rest after hi, modulo 2^8:
    store_lowest_bytes(hn::ShiftRight<8>(a), lo_ + at.index());
    store_lowest_bytes(hn::ShiftRight<8>(b), lo_ + next.index());
  }

 private:
  template <class D>
  static HWY_INLINE hn::Vec<hn::RebindToUnsigned<D>> random(D d, At at, const Dither& dither) {
    const hn::RebindToUnsigned<D> d_bits;
    return hn::And(hn::ShiftRight<kMasterDitherShift>(dither.bits(d, at)),
                   hn::Set(d_bits, kMasterDitherMask));
  }
  std::uint16_t* hi_;
  std::uint8_t* lo_;  // int8
};

/// An fp32 master and its rounded fp16 copy.
class Fp16Master {
 public:
  static constexpr bool kRounds = false;  // it converts, which takes care of NaN in any case

  explicit Fp16Master(const UpdateSpan& span)
      : half_(static_cast<std::uint16_t*>(span.weight)), full_(static_cast<float*>(span.master)) {}

  template <class D>
  HWY_INLINE hn::Vec<D> load(D d, std::size_t i) const {
    return Fp32Lanes::load(d, full_ + i);
  }
  template <Nan, class D>
  HWY_INLINE void store(D d, hn::Vec<D> first, hn::Vec<D> second, At at, const Dither&) const {
    const std::size_t next = at.index() + hn::MaxLanes(d);
    Fp32Lanes::store(d, first, full_ + at.index());
    Fp32Lanes::store(d, second, full_ + next);
    Fp16Lanes::store(d, first, half_ + at.index());
    Fp16Lanes::store(d, second, half_ + next);
  }

 private:
  std::uint16_t* half_;
  float* full_;
};

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace strata::optim_cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard, once per instruction set
