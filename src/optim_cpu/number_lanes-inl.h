/// \file
/// Vectors of fp32 loaded from and stored to the formats at rest. One copy per instruction set;
/// number_conversions.h has the same conversions one number at a time.

#if defined(STRATA_OPTIM_CPU_NUMBER_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef STRATA_OPTIM_CPU_NUMBER_LANES_INL_H_
#undef STRATA_OPTIM_CPU_NUMBER_LANES_INL_H_
#else
#define STRATA_OPTIM_CPU_NUMBER_LANES_INL_H_
#endif

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

/// Whether there is no NaN among `values`. Infinities of both signs may look like one.
template <class V, class... Vs>
HWY_INLINE bool without_nan(V value, Vs... values) {
  ((value = hn::Add(value, values)), ...);
  return hn::AllFalse(hn::DFromV<V>(), hn::IsNaN(value));
}

/// Whether rounding takes care of NaN, which it could otherwise make a number of. To look for one
/// among many values at once is cheaper than to take care of each.
enum class Nan { kNone, kPossible };

template <Nan kNan, class V>
HWY_INLINE auto bits_of(V value) {
  const hn::RebindToUnsigned<hn::DFromV<V>> d_bits;
  if constexpr (kNan == Nan::kNone) return hn::BitCast(d_bits, value);
  return hn::BitCast(d_bits, with_quiet_nan(value));
}

// ---- parts of 32-bit lanes ----------------------------------------------------------------------
// Halves are stored two vectors at once, which are of consecutive elements and fill a register.

/// The upper halves.
template <class V>
HWY_INLINE void store_upper(V first, V second, std::uint16_t* at) {
  const hn::Repartition<std::uint16_t, hn::DFromV<V>> d;
  hn::StoreU(hn::ConcatOdd(d, hn::BitCast(d, second), hn::BitCast(d, first)), d, at);
}

/// The lower halves.
template <class V>
HWY_INLINE void store_lower(V first, V second, std::uint16_t* at) {
  const hn::Repartition<std::uint16_t, hn::DFromV<V>> d;
  hn::StoreU(hn::ConcatEven(d, hn::BitCast(d, second), hn::BitCast(d, first)), d, at);
}

/// The lowest bytes.
template <class V>
HWY_INLINE void store_lowest_bytes(V bits, std::uint8_t* at) {
  const hn::Rebind<std::uint8_t, hn::DFromV<V>> d;
#if HWY_TARGET == HWY_AVX3  // where TruncateTo is two permutations
  if constexpr (hn::MaxLanes(d) == 16) {
    return hn::StoreU(hn::Vec<decltype(d)>{_mm512_cvtepi32_epi8(bits.raw)}, d, at);
  }
#endif
  hn::StoreU(hn::TruncateTo(d, bits), d, at);
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
    const hn::Rebind<Value, D> d_value;
    hn::StoreU(hn::TruncateTo(d_value, hn::ShiftRight<16>(rounded)), d_value, values);
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
