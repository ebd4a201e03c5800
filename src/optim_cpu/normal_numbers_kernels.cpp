#include "optim_cpu/highway_targets.h"

// Highway includes this file again for every instruction set that it compiles for.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "optim_cpu/normal_numbers_kernels.cpp"
#include "hwy/foreach_target.h"
//
#include <bit>
#include <cstring>

#include "hwy/highway.h"
#include "optim_cpu/dither.h"
#include "optim_cpu/normal_numbers.h"
#include "optim_cpu/reference_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace strata::optim_cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR

using NormalTag = hn::ScalableTag<float>;
using NormalBits = hn::RebindToUnsigned<NormalTag>;
using NormalInts = hn::RebindToSigned<NormalTag>;
using Floats = hn::Vec<NormalTag>;
using Bits = hn::Vec<NormalBits>;

/// mixed_bits, of vectors.
HWY_INLINE Bits mixed(Bits x) {
  const NormalBits d;
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<16>(x)), hn::Set(d, kMixerFactors[0]));
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<15>(x)), hn::Set(d, kMixerFactors[1]));
  return hn::Xor(x, hn::ShiftRight<16>(x));
}

template <std::size_t kFactors>
HWY_INLINE Floats polynomial(const float (&factors)[kFactors], Floats x) {
  const NormalTag d;
  Floats value = hn::Set(d, factors[0]);
  for (std::size_t k = 1; k < kFactors; ++k) value = hn::MulAdd(value, x, hn::Set(d, factors[k]));
  return value;
}

HWY_INLINE Floats logarithm(Floats value) {
  const NormalTag d;
  const NormalInts d_int;
  const auto bits = hn::BitCast(d_int, value);
  const auto exponent = hn::ShiftRight<23>(hn::Sub(bits, hn::Set(d_int, kRootOfHalf)));
  const Floats mantissa = hn::BitCast(d, hn::Sub(bits, hn::ShiftLeft<23>(exponent)));
  const Floats f = hn::Sub(mantissa, hn::Set(d, 1.0F));
  const Floats e = hn::ConvertTo(d, exponent);
  const Floats square = hn::Mul(f, f);
  Floats sum = hn::Mul(polynomial(kLogarithm, f), hn::Mul(f, square));
  sum = hn::MulAdd(e, hn::Set(d, kLnTwoLower), sum);
  sum = hn::MulAdd(square, hn::Set(d, -0.5F), sum);
  return hn::MulAdd(e, hn::Set(d, kLnTwoUpper), hn::Add(sum, f));
}

constexpr std::size_t kLanes = hn::MaxLanes(NormalTag());
constexpr std::size_t kMaskBytes = (kLanes + 7) / 8;
// The vectors whose lanes are told by one word which of them are outside of the centre.
constexpr std::size_t kVectorsOfWord = sizeof(std::uint64_t) / kMaskBytes;

/// Writes the numbers that these bits make, right for lanes in the centre; returns at `outside`
/// which are not.
HWY_INLINE void store_centre(Bits bits, Floats scale, float* numbers, std::uint8_t* outside) {
  const NormalTag d;
  const Floats one = hn::Set(d, 1.0F);
  const Floats whole = hn::ConvertTo(d, hn::ShiftRight<8>(hn::BitCast(NormalInts(), bits)));
  const Floats x = hn::Mul(hn::Add(whole, hn::Set(d, 0.5F)), hn::Set(d, 0x1p-23F));
  const Floats w = hn::Neg(logarithm(hn::Mul(hn::Sub(one, x), hn::Add(one, x))));
  const Floats slope = polynomial(kCentre, hn::Sub(w, hn::Set(d, 2.5F)));
  hn::StoreU(hn::Mul(hn::Mul(slope, x), scale), d, numbers);
  hn::StoreMaskBits(d, hn::Ge(w, hn::Set(d, kTail)), outside);
}

NormalSpan part_of(const NormalSpan& span, std::size_t begin, std::size_t count) {
  NormalSpan part = span;
  part.first += static_cast<std::uint32_t>(begin);
  part.count = count;
  part.numbers += begin;
  return part;
}

/// Three in a thousand numbers are outside of the centre. The reference makes them afterwards: a
/// branch that asks for them in each vector is guessed wrongly too often.
void normal_numbers(const NormalSpan& span) {
  constexpr std::size_t kNumbersOfWord = kVectorsOfWord * kLanes;
  const NormalBits d_bits;
  const Bits inner = hn::Set(d_bits, span.inner_key), outer = hn::Set(d_bits, span.outer_key);
  const Bits step = hn::Set(d_bits, kLanes);
  const Floats scale = hn::Set(NormalTag(), span.scale);
  Bits place = hn::Iota(d_bits, span.first);
  std::size_t begin = 0;
  for (; begin + kNumbersOfWord <= span.count; begin += kNumbersOfWord) {
    std::uint8_t masks[sizeof(std::uint64_t)];
    for (std::size_t v = 0; v < kVectorsOfWord; ++v, place = hn::Add(place, step)) {
      const Bits bits = mixed(hn::Xor(mixed(hn::Xor(place, inner)), outer));
      store_centre(bits, scale, span.numbers + begin + v * kLanes, masks + v * kMaskBytes);
    }
    std::uint64_t outside = 0;
    std::memcpy(&outside, masks, sizeof(outside));
    for (; outside != 0; outside &= outside - 1) {
      const auto bit = static_cast<std::size_t>(std::countr_zero(outside));
      const std::size_t element = bit / (8 * kMaskBytes) * kLanes + bit % (8 * kMaskBytes);
      reference::normal_numbers(part_of(span, begin + element, 1));
    }
  }
  reference::normal_numbers(part_of(span, begin, span.count - begin));
}

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace strata::optim_cpu
HWY_AFTER_NAMESPACE();
