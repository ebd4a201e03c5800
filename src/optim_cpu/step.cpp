#include "optim_cpu/step.h"

#include <algorithm>

#include "optim_cpu/kernel_spans.h"

namespace strata::optim_cpu {
namespace {

/// The whole window.
UpdateSpan span_of(const Window& window) {
  const WindowRange& range = window.range();
  const ShardStates& shard = *range.shard;
  return {.format = shard.format,
          .gradient_format = shard.gradient_fp32 ? Precision::kFp32 : shard.format.precision,
          .count = range.end - range.begin,
          .weight = window.data(StateKind::kWeight),
          .master = window.data(StateKind::kMaster),
          .m = window.data(StateKind::kM),
          .v = window.data(StateKind::kV),
          .gradient = window.data(StateKind::kGradient),
          .first_element = shard.first_element + range.begin,
          .stream = shard.stream};
}

/// Updates a part of a window, segment by segment.
void update_part(const StepContext& context, const ShardStates& shard, UpdateSpan part) {
  auto segment = segment_at(shard, part.first_element - shard.first_element);
  while (part.count > 0) {
    const std::uint64_t begin = part.first_element - shard.first_element;
    const std::size_t count = std::min<std::uint64_t>(part.count, segment->end - begin);
    if (segment->group != kNotUpdated)
      context.kernels.update(context.groups[segment->group], part_of(part, 0, count));
    part = rest_of(part, count);
    ++segment;
  }
}

}  // namespace

void update_window(const StepContext& context, const Window& window, ComputeThreads& threads) {
  const UpdateSpan whole = span_of(window);
  const ShardStates& shard = *window.range().shard;
  threads.for_each_block(whole.count, kUpdateElementsAtOnce, [&](Block block) {
    update_part(context, shard, part_of(whole, block.begin, block.end - block.begin));
  });
}

}  // namespace strata::optim_cpu
