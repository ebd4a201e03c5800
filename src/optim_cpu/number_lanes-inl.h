/// \file
/// Vectors of fp32 loaded from and stored to the formats at rest. One copy per instruction set;
/// number_conversions.h has the same conversions one number at a time.

#if defined(STRATA_OPTIM_CPU_NUMBER_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef STRATA_OPTIM_CPU_NUMBER_LANES_INL_H_
#undef STRATA_OPTIM_CPU_NUMBER_LANES_INL_H_
#else
#define STRATA_OPTIM_CPU_NUMBER_LANES_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "optim_cpu/number_conversions.h"

HWY_BEFORE_NAMESPACE();
namespace strata::optim_cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR

template <class V>
HWY_INLINE V with_quiet_nan(V value) {
  const hn::DFromV<V> d;
  const auto nan = hn::BitCast(d, hn::Set(hn::RebindToUnsigned<decltype(d)>(), kQuietNan));
  return hn::IfThenElse(hn::IsNaN(value), nan, value);
}

/// The low half of each 32-bit lane, which holds no more than that.
template <class V>
HWY_INLINE auto narrow_to_u16(V bits) {
  const hn::RebindToSigned<hn::DFromV<V>> d_i32;
  return hn::DemoteTo(hn::Rebind<std::uint16_t, decltype(d_i32)>(), hn::BitCast(d_i32, bits));
}

// ---- single formats ---------------------------------------------------------------------------

struct Fp32Lanes {
  using Value = float;

  template <class D>
  static HWY_INLINE hn::Vec<D> load(D d, const Value* values) {
    return hn::LoadU(d, values);
  }
  template <class D>
  static HWY_INLINE void store(D d, hn::Vec<D> value, Value* values) {
    hn::StoreU(value, d, values);
  }
};

struct Bf16Lanes {
  using Value = std::uint16_t;

  template <class D>
  static HWY_INLINE hn::Vec<D> load(D d, const Value* values) {
    const hn::RebindToUnsigned<D> d_bits;
    const auto halves = hn::LoadU(hn::Rebind<Value, D>(), values);
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d_bits, halves)));
  }
  template <class D>
  static HWY_INLINE void store(D d, hn::Vec<D> value, Value* values) {
    const hn::RebindToUnsigned<D> d_bits;
    const auto bits = hn::BitCast(d_bits, with_quiet_nan(value));
    const auto lowest_kept_bit = hn::And(hn::ShiftRight<16>(bits), hn::Set(d_bits, 1));
    const auto rounded = hn::Add(hn::Add(bits, hn::Set(d_bits, 0x7FFF)), lowest_kept_bit);
    hn::StoreU(narrow_to_u16(hn::ShiftRight<16>(rounded)), hn::Rebind<Value, D>(), values);
  }
};

struct Fp16Lanes {
  using Value = std::uint16_t;

  template <class D>
  static HWY_INLINE hn::Vec<D> load(D d, const Value* values) {
    const hn::Rebind<hwy::float16_t, D> d_half;
    const auto bits = hn::LoadU(hn::Rebind<Value, D>(), values);
    return hn::PromoteTo(d, hn::BitCast(d_half, bits));
  }
  template <class D>
  static HWY_INLINE void store(D /*d*/, hn::Vec<D> value, Value* values) {
    const hn::Rebind<hwy::float16_t, D> d_half;
    const hn::Rebind<Value, D> d_value;
    const auto halves = hn::DemoteTo(d_half, with_quiet_nan(value));
    hn::StoreU(hn::BitCast(d_value, halves), d_value, values);
  }
};

// ---- masters: the weight and what is kept beside it -------------------------------------------

/// The weight is the master.
struct Fp32Master {
  using Weight = float;

  Fp32Master(void* weight_at, void* /*master_at*/) : weight(static_cast<Weight*>(weight_at)) {}

  template <class D>
  HWY_INLINE hn::Vec<D> load(D d, std::size_t i) const {
    return Fp32Lanes::load(d, weight + i);
  }
  template <class D>
  HWY_INLINE void store(D d, hn::Vec<D> value, std::size_t i) const {
    Fp32Lanes::store(d, value, weight + i);
  }

  Weight* weight;
};

/// bf16 `hi` and int16 `lo`.
struct HiLoMaster {
  HiLoMaster(void* weight_at, void* master_at)
      : hi_at(static_cast<std::uint16_t*>(weight_at)),
        lo_at(static_cast<std::int16_t*>(master_at)) {}

  template <class D>
  HWY_INLINE hn::Vec<D> load(D d, std::size_t i) const {
    const hn::RebindToSigned<D> d_bits;
    const auto hi = hn::PromoteTo(d_bits, hn::LoadU(hn::Rebind<std::uint16_t, D>(), hi_at + i));
    const auto lo = hn::PromoteTo(d_bits, hn::LoadU(hn::Rebind<std::int16_t, D>(), lo_at + i));
    return hn::BitCast(d, hn::Add(hn::ShiftLeft<16>(hi), lo));
  }
  template <class D>
  HWY_INLINE void store(D /*d*/, hn::Vec<D> value, std::size_t i) const {
    const hn::RebindToUnsigned<D> d_bits;
    const hn::RebindToSigned<D> d_signed;
    const hn::Rebind<std::int16_t, D> d_lo;
    const auto bits = hn::BitCast(d_bits, with_quiet_nan(value));
    const auto hi = hn::ShiftRight<16>(hn::Add(bits, hn::Set(d_bits, 0x8000)));
    const auto lo = hn::Sub(bits, hn::ShiftLeft<16>(hi));
    hn::StoreU(narrow_to_u16(hi), hn::Rebind<std::uint16_t, D>(), hi_at + i);
    hn::StoreU(hn::DemoteTo(d_lo, hn::BitCast(d_signed, lo)), d_lo, lo_at + i);
  }

  std::uint16_t* hi_at;
  std::int16_t* lo_at;
};

/// An fp32 master and its rounded fp16 copy.
struct Fp16Master {
  Fp16Master(void* weight_at, void* master_at)
      : half_at(static_cast<std::uint16_t*>(weight_at)), full_at(static_cast<float*>(master_at)) {}

  template <class D>
  HWY_INLINE hn::Vec<D> load(D d, std::size_t i) const {
    return Fp32Lanes::load(d, full_at + i);
  }
  template <class D>
  HWY_INLINE void store(D d, hn::Vec<D> value, std::size_t i) const {
    Fp32Lanes::store(d, value, full_at + i);
    Fp16Lanes::store(d, value, half_at + i);
  }

  std::uint16_t* half_at;
  float* full_at;
};

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace strata::optim_cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard, once per instruction set
