#include "optim_cpu/highway_targets.h"

// Highway includes this file again for every instruction set that it compiles for.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "optim_cpu/add_in_order_kernels.cpp"
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

using AddTag = hn::ScalableTag<float>;

/// The vectors that are summed side by side: what is known of a gradient (where it is, whether it
/// is the last) is asked once for all of them.
constexpr std::size_t kVectorsAtOnce = 4;

template <class Source>
HWY_INLINE const typename Source::Value* numbers_of(const AddSpan& span, std::size_t gradient) {
  return static_cast<const typename Source::Value*>(span.gradients[gradient]);
}

template <class Source, bool kFirst>
void add_in_order_as(const AddSpan& span) {
  const AddTag d;
  constexpr std::size_t kLanes = hn::MaxLanes(d);
  std::size_t i = span.begin;
  for (; i + kVectorsAtOnce * kLanes <= span.end; i += kVectorsAtOnce * kLanes) {
    hn::Vec<AddTag> sums[kVectorsAtOnce];
    for (std::size_t k = 0; k < kVectorsAtOnce; ++k) {
      if constexpr (kFirst) {
        sums[k] = Source::load(d, numbers_of<Source>(span, 0) + i + k * kLanes);
      } else {
        sums[k] = hn::LoadU(d, span.sum + i + k * kLanes);
      }
    }
    for (std::size_t next = kFirst ? 1 : 0; next < span.gradients.size(); ++next) {
      const auto* gradient = numbers_of<Source>(span, next) + i;
      for (std::size_t k = 0; k < kVectorsAtOnce; ++k)
        sums[k] = hn::Add(sums[k], Source::load(d, gradient + k * kLanes));
    }
    for (std::size_t k = 0; k < kVectorsAtOnce; ++k)
      hn::StoreU(sums[k], d, span.sum + i + k * kLanes);
  }
  AddSpan rest = span;
  rest.begin = i;
  reference::add_in_order(rest);
}

template <class Source>
void add_in_order_as(const AddSpan& span) {
  if (span.is_first)
    add_in_order_as<Source, true>(span);
  else
    add_in_order_as<Source, false>(span);
}

void add_in_order(const AddSpan& span) {
  switch (span.precision) {
    case Precision::kFp32: return add_in_order_as<Fp32Lanes>(span);
    case Precision::kBf16: return add_in_order_as<Bf16Lanes>(span);
    case Precision::kFp16: return add_in_order_as<Fp16Lanes>(span);
  }
}

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace strata::optim_cpu
HWY_AFTER_NAMESPACE();
