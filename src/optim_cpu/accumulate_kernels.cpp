#include "optim_cpu/highway_targets.h"

// Highway includes this file again for every instruction set that it compiles for.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "optim_cpu/accumulate_kernels.cpp"
#include "hwy/foreach_target.h"
//
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "optim_cpu/kernel_spans.h"
#include "optim_cpu/number_lanes-inl.h"
#include "optim_cpu/reference_kernels.h"
#include "strata/optim_cpu/sum_of_squares.h"

HWY_BEFORE_NAMESPACE();
namespace strata::optim_cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

constexpr std::size_t kLaneCount = std::tuple_size_v<SumLanes>;
using SumTag = hn::CappedTag<double, kLaneCount>;
constexpr std::size_t kLanes = hn::MaxLanes(SumTag());
constexpr std::size_t kVectors = kLaneCount / kLanes;
static_assert(kGradientBlockElements % kLaneCount == 0);

/// The sum of a vector, by the tree that SumLanes describes.
template <class D>
HWY_INLINE double sum_of_vector(D d, hn::Vec<D> sums) {
  if constexpr (hn::MaxLanes(d) == 1) {
    return hn::GetLane(sums);
  } else {
    const hn::Half<D> d_half;
    return sum_of_vector(d_half, hn::Add(hn::LowerHalf(d_half, sums), hn::UpperHalf(d_half, sums)));
  }
}

/// The sum of the sixteen lanes, by the same tree.
HWY_INLINE double sum_of_lanes(hn::Vec<SumTag> (&sums)[kVectors]) {
  for (std::size_t half = kVectors / 2; half > 0; half /= 2)
    for (std::size_t k = 0; k < half; ++k) sums[k] = hn::Add(sums[k], sums[k + half]);
  return sum_of_vector(SumTag(), sums[0]);
}

/// Asks for the block of numbers that comes kBytesAhead after this one. A gradient comes from
/// memory, and hardware alone, which stops at the end of a page, left a third of the time to
/// waiting for it.
template <class Value>
HWY_INLINE void prefetch_ahead(const Value* block, std::size_t elements_left) {
  constexpr std::size_t kBytesAhead = 2048;
  constexpr std::size_t kLineBytes = 64;
  constexpr std::size_t kAhead = kBytesAhead / sizeof(Value);
  if (elements_left < kAhead + kGradientBlockElements) return;
  for (std::size_t i = 0; i < kGradientBlockElements; i += kLineBytes / sizeof(Value))
    hwy::Prefetch(block + kAhead + i);
}

/// Sums one block after the other, sixteen elements at a time, on as many vectors of double as the
/// sixteen lanes take. The square of an fp32 is exact in double, so a fused and a separate addition
/// round alike. kSingle: there is one contribution.
template <class Source, class Target, bool kFirst, bool kSingle>
void accumulate_as(const AccumulateSpan& span, double* block_sums) {
  const SumTag d_sum;
  const hn::Rebind<float, SumTag> d;
  const auto* source = static_cast<const typename Source::Value*>(span.source);
  auto* target = static_cast<typename Target::Value*>(span.target);

  const std::size_t whole = span.count - span.count % kGradientBlockElements;
  for (std::size_t block = 0; block < whole; block += kGradientBlockElements) {
    hn::Vec<SumTag> sums[kVectors];
    for (std::size_t k = 0; k < kVectors; ++k) sums[k] = hn::Zero(d_sum);
    prefetch_ahead(source + block, whole - block);
    prefetch_ahead(target + block, whole - block);
    for (std::size_t i = block; i < block + kGradientBlockElements; i += kLaneCount) {
      for (std::size_t k = 0; k < kVectors; ++k) {
        const std::size_t at = i + k * kLanes;
        auto value = Source::load(d, source + at);
        if constexpr (!kSingle) {
          for (std::size_t rank = 1; rank < span.contributions; ++rank) {
            const auto* others = contribution(span, rank);
            value = hn::Add(
                value,
                Source::load(d, reinterpret_cast<const typename Source::Value*>(others) + at));
          }
        }
        if constexpr (!kFirst) value = hn::Add(Target::load(d, target + at), value);
        Target::store(d, value, target + at);
        const auto stored = hn::PromoteTo(d_sum, Target::load(d, target + at));
        sums[k] = hn::MulAdd(stored, stored, sums[k]);
      }
    }
    *block_sums++ = sum_of_lanes(sums);
  }
  if (whole < span.count)
    reference::accumulate(part_of(span, whole, span.count - whole), block_sums);
}

template <class Source, class Target, bool kFirst>
void accumulate_as(const AccumulateSpan& span, double* block_sums) {
  if (span.contributions == 1)
    accumulate_as<Source, Target, kFirst, true>(span, block_sums);
  else
    accumulate_as<Source, Target, kFirst, false>(span, block_sums);
}

template <class Source, class Target>
void accumulate_as(const AccumulateSpan& span, double* block_sums) {
  if (span.first)
    accumulate_as<Source, Target, true>(span, block_sums);
  else
    accumulate_as<Source, Target, false>(span, block_sums);
}

void accumulate(const AccumulateSpan& span, double* block_sums) {
  switch (span.precision) {
    case Precision::kFp32: return accumulate_as<Fp32Lanes, Fp32Lanes>(span, block_sums);
    case Precision::kBf16:
      return span.target_fp32 ? accumulate_as<Bf16Lanes, Fp32Lanes>(span, block_sums)
                              : accumulate_as<Bf16Lanes, Bf16Lanes>(span, block_sums);
    case Precision::kFp16:
      return span.target_fp32 ? accumulate_as<Fp16Lanes, Fp32Lanes>(span, block_sums)
                              : accumulate_as<Fp16Lanes, Fp16Lanes>(span, block_sums);
  }
}

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace strata::optim_cpu
HWY_AFTER_NAMESPACE();
