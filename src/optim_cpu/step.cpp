#include "optim_cpu/step.h"

#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/parallel_for.h>

#include <algorithm>

#include "strata/base/units.h"

namespace strata::optim_cpu {
namespace {

/// What one thread updates at a time: states of some 200 KiB, cut where vectors are cut anyway.
constexpr std::uint64_t kBlockElements = 16 * 1024;

AdamSpan span_of(const StepContext& context, const Window& window, std::uint64_t begin,
                 std::uint64_t end) {
  const bool gradient_fp32 = window.range().shard->gradient_fp32;
  const auto at = [&](StateKind kind) -> void* {
    std::byte* data = window.data(kind);
    const std::uint64_t bytes = state_bytes(context.precision, kind, gradient_fp32);
    return data == nullptr ? nullptr : data + (begin - window.range().begin) * bytes;
  };
  return {context.precision,
          gradient_fp32,
          end - begin,
          at(StateKind::kWeight),
          at(StateKind::kMaster),
          static_cast<float*>(at(StateKind::kM)),
          static_cast<float*>(at(StateKind::kV)),
          at(StateKind::kGradient)};
}

/// Updates elements [begin, end) of the window's shard, segment by segment.
void update_elements(const StepContext& context, const Window& window, std::uint64_t begin,
                     std::uint64_t end) {
  const std::span<const Segment> segments = window.range().shard->segments;
  auto segment = std::ranges::partition_point(
      segments, [&](const Segment& candidate) { return candidate.end <= begin; });
  for (; begin < end; ++segment) {
    const std::uint64_t piece_end = std::min(end, segment->end);
    adam_update(context.groups[segment->group], context.step, context.gradient_scale,
                span_of(context, window, begin, piece_end));
    begin = piece_end;
  }
}

}  // namespace

void update_window(const StepContext& context, const Window& window, tbb::task_arena& threads) {
  const auto [shard, begin, end] = window.range();
  threads.execute([&, first = begin, last = end] {
    tbb::parallel_for(
        std::uint64_t{0}, ceil_div(last - first, kBlockElements), [&](std::uint64_t block) {
          const std::uint64_t from = first + block * kBlockElements;
          update_elements(context, window, from, std::min(from + kBlockElements, last));
        });
  });
}

}  // namespace strata::optim_cpu
