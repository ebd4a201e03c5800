#include "optim_cpu/kernel_spans.h"

namespace strata::optim_cpu {
namespace {

void* advance(void* begin, std::size_t elements, std::uint64_t element_bytes) {
  return static_cast<std::byte*>(begin) + elements * element_bytes;
}

const void* advance(const void* begin, std::size_t elements, std::uint64_t element_bytes) {
  return static_cast<const std::byte*>(begin) + elements * element_bytes;
}

}  // namespace

UpdateSpan rest_of(const UpdateSpan& span, std::size_t begin) {
  const auto from = [&](auto* state, StateKind kind) {
    return state == nullptr ? nullptr : advance(state, begin, state_bytes(span.format, kind));
  };
  UpdateSpan rest = span;
  rest.count = span.count - begin;
  rest.first_element = span.first_element + begin;
  rest.weight = from(span.weight, StateKind::kWeight);
  rest.master = from(span.master, StateKind::kMaster);
  rest.m = from(span.m, StateKind::kM);
  rest.v = from(span.v, StateKind::kV);
  rest.gradient = advance(span.gradient, begin, weight_bytes(span.gradient_format));
  return rest;
}

UpdateSpan part_of(const UpdateSpan& span, std::size_t begin, std::size_t count) {
  UpdateSpan part = rest_of(span, begin);
  part.count = count;
  return part;
}

AccumulateSpan part_of(const AccumulateSpan& span, std::size_t begin, std::size_t count) {
  const std::uint64_t source_bytes = weight_bytes(span.precision);
  AccumulateSpan part = span;
  part.count = count;
  part.source = advance(span.source, begin, source_bytes);
  part.target = advance(span.target, begin, span.target_fp32 ? sizeof(float) : source_bytes);
  return part;
}

}  // namespace strata::optim_cpu
