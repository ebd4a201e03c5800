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
#include <type_traits>

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

/// Stores the low `To` of each 32-bit lane.
template <class To, class V>
HWY_INLINE void store_low(V bits, To* at) {
  const hn::RebindToUnsigned<hn::DFromV<V>> d_bits;
  const hn::Rebind<std::make_unsigned_t<To>, hn::DFromV<V>> d_low;
  hn::StoreU(hn::TruncateTo(d_low, hn::BitCast(d_bits, bits)), d_low,
             reinterpret_cast<std::make_unsigned_t<To>*>(at));
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
  static HWY_INLINE void store(D /*d*/, hn::Vec<D> value, Value* values) {
    const hn::RebindToUnsigned<D> d_bits;
    const auto bits = hn::BitCast(d_bits, with_quiet_nan(value));
    const auto lowest_kept_bit = hn::And(hn::ShiftRight<16>(bits), hn::Set(d_bits, 1));
    const auto rounded = hn::Add(hn::Add(bits, hn::Set(d_bits, 0x7FFF)), lowest_kept_bit);
    store_low(hn::ShiftRight<16>(rounded), values);
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

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace strata::optim_cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard, once per instruction set
