#include "optim_cpu/highway_targets.h"

// Highway includes this file again for every instruction set that it compiles for.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "optim_cpu/accumulate_kernels.cpp"
#include "hwy/foreach_target.h"
//
#include "hwy/highway.h"
#include "optim_cpu/kernel_spans.h"
#include "optim_cpu/number_lanes-inl.h"
#include "optim_cpu/reference_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace strata::optim_cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

/// Sixteen elements at a time, on as many vectors of double as the sixteen lanes take. The square
/// of an fp32 is exact in double, so a fused and a separate addition round alike.
template <class Source, class Target, bool kFirst>
void accumulate_as(const AccumulateSpan& span, SumLanes& sum_lanes) {
  const hn::CappedTag<double, std::tuple_size_v<SumLanes>> d_sum;
  const hn::Rebind<float, decltype(d_sum)> d;
  constexpr std::size_t kLanes = hn::MaxLanes(d_sum);
  constexpr std::size_t kVectors = std::tuple_size_v<SumLanes> / kLanes;
  const auto* source = static_cast<const typename Source::Value*>(span.source);
  auto* target = static_cast<typename Target::Value*>(span.target);

  hn::Vec<decltype(d_sum)> sums[kVectors];
  for (std::size_t k = 0; k < kVectors; ++k)
    sums[k] = hn::LoadU(d_sum, sum_lanes.data() + k * kLanes);

  const std::size_t whole = span.count - span.count % sum_lanes.size();
  for (std::size_t i = 0; i < whole; i += sum_lanes.size()) {
    for (std::size_t k = 0; k < kVectors; ++k) {
      const std::size_t at = i + k * kLanes;
      auto value = Source::load(d, source + at);
      if constexpr (!kFirst) value = hn::Add(Target::load(d, target + at), value);
      Target::store(d, value, target + at);
      const auto stored = hn::PromoteTo(d_sum, Target::load(d, target + at));
      sums[k] = hn::MulAdd(stored, stored, sums[k]);
    }
  }

  for (std::size_t k = 0; k < kVectors; ++k)
    hn::StoreU(sums[k], d_sum, sum_lanes.data() + k * kLanes);
  if (whole < span.count)
    reference::accumulate(part_of(span, whole, span.count - whole), sum_lanes);
}

template <class Source, class Target>
void accumulate_as(const AccumulateSpan& span, SumLanes& lanes) {
  if (span.first)
    accumulate_as<Source, Target, true>(span, lanes);
  else
    accumulate_as<Source, Target, false>(span, lanes);
}

void accumulate(const AccumulateSpan& span, SumLanes& lanes) {
  switch (span.precision) {
    case Precision::kFp32: return accumulate_as<Fp32Lanes, Fp32Lanes>(span, lanes);
    case Precision::kBf16:
      return span.target_fp32 ? accumulate_as<Bf16Lanes, Fp32Lanes>(span, lanes)
                              : accumulate_as<Bf16Lanes, Bf16Lanes>(span, lanes);
    case Precision::kFp16:
      return span.target_fp32 ? accumulate_as<Fp16Lanes, Fp32Lanes>(span, lanes)
                              : accumulate_as<Fp16Lanes, Fp16Lanes>(span, lanes);
  }
}

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace strata::optim_cpu
HWY_AFTER_NAMESPACE();
