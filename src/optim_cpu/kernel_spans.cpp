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

AdamSpan rest_of(const AdamSpan& span, std::size_t begin) {
  const auto bytes_of = [&](StateKind kind) {
    return state_bytes(span.precision, kind, span.gradient_fp32);
  };
  AdamSpan rest = span;
  rest.count = span.count - begin;
  rest.weight = advance(span.weight, begin, bytes_of(StateKind::kWeight));
  rest.master = advance(span.master, begin, bytes_of(StateKind::kMaster));
  rest.m = span.m + begin;
  rest.v = span.v + begin;
  rest.gradient = advance(span.gradient, begin, bytes_of(StateKind::kGradient));
  return rest;
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
