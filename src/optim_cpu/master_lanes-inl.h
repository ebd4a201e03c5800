/// \file
/// Vectors of fp32 masters, loaded from and stored to the weight and what is kept beside it. One
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
//   load(d, i)                  the masters of elements [i, i + lanes)
//   store(d, value, at, dither)  the inverse; `dither` gives random bits to those that round by
//   them

/// The weight is the master.
class Fp32Master {
 public:
  explicit Fp32Master(const UpdateSpan& span) : weight_(static_cast<float*>(span.weight)) {}

  template <class D>
  HWY_INLINE hn::Vec<D> load(D d, std::size_t i) const {
    return Fp32Lanes::load(d, weight_ + i);
  }
  template <class D>
  HWY_INLINE void store(D d, hn::Vec<D> value, At at, const Dither& /*dither*/) const {
    Fp32Lanes::store(d, value, weight_ + at.index());
  }

 private:
  float* weight_;
};

/// bf16 `hi` and int16 `lo`.
class HiLoMaster {
 public:
  explicit HiLoMaster(const UpdateSpan& span)
      : hi_(static_cast<std::uint16_t*>(span.weight)),
        lo_(static_cast<std::int16_t*>(span.master)) {}

  template <class D>
  HWY_INLINE hn::Vec<D> load(D d, std::size_t i) const {
    const hn::RebindToSigned<D> d_bits;
    const auto hi = hn::PromoteTo(d_bits, hn::LoadU(hn::Rebind<std::uint16_t, D>(), hi_ + i));
    const auto lo = hn::PromoteTo(d_bits, hn::LoadU(hn::Rebind<std::int16_t, D>(), lo_ + i));
    return hn::BitCast(d, hn::Add(hn::ShiftLeft<16>(hi), lo));
  }
  template <class D>
  HWY_INLINE void store(D /*d*/, hn::Vec<D> value, At at, const Dither& /*dither*/) const {
    const hn::RebindToUnsigned<D> d_bits;
    const auto bits = hn::BitCast(d_bits, with_quiet_nan(value));
    store_low(hn::ShiftRight<16>(hn::Add(bits, hn::Set(d_bits, 0x8000))), hi_ + at.index());
    store_low(bits, lo_ + at.index());  // what hi lacks, modulo 2^16
  }

 private:
  std::uint16_t* hi_;
  std::int16_t* lo_;
};

/// bf16 `hi` and int8 `lo`.
class HiLo24Master {
 public:
  explicit HiLo24Master(const UpdateSpan& span)
      : hi_(static_cast<std::uint16_t*>(span.weight)),
        lo_(static_cast<std::int8_t*>(span.master)) {}

  template <class D>
  HWY_INLINE hn::Vec<D> load(D d, std::size_t i) const {
    const hn::RebindToSigned<D> d_bits;
    const auto hi = hn::PromoteTo(d_bits, hn::LoadU(hn::Rebind<std::uint16_t, D>(), hi_ + i));
    const auto lo = hn::PromoteTo(d_bits, hn::LoadU(hn::Rebind<std::int8_t, D>(), lo_ + i));
    return hn::BitCast(d, hn::Add(hn::ShiftLeft<16>(hi), hn::ShiftLeft<8>(lo)));
  }
  template <class D>
  HWY_INLINE void store(D d, hn::Vec<D> value, At at, const Dither& dither) const {
    const hn::RebindToUnsigned<D> d_bits;
    const auto random = hn::And(hn::ShiftRight<kMasterDitherShift>(dither.bits(d, at)),
                                hn::Set(d_bits, kMasterDitherMask));
    const auto bits = hn::And(hn::Add(hn::BitCast(d_bits, with_quiet_nan(value)), random),
                              hn::Set(d_bits, 0xFFFFFF00));
    store_low(hn::ShiftRight<16>(hn::Add(bits, hn::Set(d_bits, 0x8000))), hi_ + at.index());
    store_low(hn::ShiftRight<8>(bits), lo_ + at.index());  // what hi lacks, modulo 2^8
  }

 private:
  std::uint16_t* hi_;
  std::int8_t* lo_;
};

/// An fp32 master and its rounded fp16 copy.
class Fp16Master {
 public:
  explicit Fp16Master(const UpdateSpan& span)
      : half_(static_cast<std::uint16_t*>(span.weight)), full_(static_cast<float*>(span.master)) {}

  template <class D>
  HWY_INLINE hn::Vec<D> load(D d, std::size_t i) const {
    return Fp32Lanes::load(d, full_ + i);
  }
  template <class D>
  HWY_INLINE void store(D d, hn::Vec<D> value, At at, const Dither& /*dither*/) const {
    Fp32Lanes::store(d, value, full_ + at.index());
    Fp16Lanes::store(d, value, half_ + at.index());
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
