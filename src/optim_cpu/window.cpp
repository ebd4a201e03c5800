#include "optim_cpu/window.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "optim_cpu/kernel_spans.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::optim_cpu {
namespace {

constexpr std::size_t index_of(StateKind kind) { return static_cast<std::size_t>(kind); }

/// The segment that `element` of the shard lies in.
std::vector<Segment>::const_iterator segment_at(const ShardStates& shard, std::uint64_t element) {
  return std::ranges::partition_point(
      shard.segments, [&](const Segment& segment) { return segment.end <= element; });
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

bool has_updates(const WindowRange& range) {
  const std::vector<Segment>& segments = range.shard->segments;
  for (auto segment = segment_at(*range.shard, range.begin);
       segment != segments.end() && segment->begin < range.end; ++segment)
    if (segment->group != kNotUpdated) return true;
  return false;
}

void Window::begin(const WindowRange& range) {
  STRATA_CHECK(is_settled(), "a window was reused while it was under way");
  range_ = range;
  hop_ = Hop::kFetch;
  next_ = 0;
  for (std::size_t i = 0; i < data_.size(); ++i) {
    const auto kind = static_cast<StateKind>(i);
    const std::span<std::byte> memory = home_of(*range.shard, kind).memory;
    if (is_elsewhere(kind))
      data_[i] = buffers_[i].data();
    else
      data_[i] = memory.empty() ? nullptr : memory.data() + range.begin * element_bytes(kind);
  }
}

void Window::update(const StepContext& context, ComputeThreads& threads) const {
  const UpdateSpan whole = span();
  const auto update_block = [&](Block block) {
    update_part(context, *range_.shard, part_of(whole, block.begin, block.end - block.begin));
  };
  threads.for_each_block(whole.count, kUpdateElementsAtOnce, std::ref(update_block));
}

std::span<const std::byte> Window::weights() const {
  return {data_[index_of(StateKind::kWeight)],
          (range_.end - range_.begin) * element_bytes(StateKind::kWeight)};
}

void Window::begin_flush() {
  hop_ = Hop::kFlush;
  next_ = 0;
}

UpdateSpan Window::span() const {
  const ShardStates& shard = *range_.shard;
  return {.format = shard.format,
          .gradient_format = shard.gradient_fp32 ? Precision::kFp32 : shard.format.precision,
          .count = range_.end - range_.begin,
          .weight = data_[index_of(StateKind::kWeight)],
          .master = data_[index_of(StateKind::kMaster)],
          .m = data_[index_of(StateKind::kM)],
          .v = data_[index_of(StateKind::kV)],
          .gradient = data_[index_of(StateKind::kGradient)],
          .first_element = shard.first_element + range_.begin,
          .sequence = shard.sequence};
}

bool Window::is_elsewhere(StateKind kind) const {
  return home_of(*range_.shard, kind).is_elsewhere();
}

std::uint64_t Window::element_bytes(StateKind kind) const {
  return state_bytes(range_.shard->format, kind, range_.shard->gradient_fp32);
}

bool Window::start_transfers(const tiering::HomePlaces& places) {
  for (; next_ < transfers_.size(); ++next_) {
    const auto kind = static_cast<StateKind>(next_);
    if (!is_elsewhere(kind) || (hop_ == Hop::kFlush && kind == StateKind::kGradient)) continue;
    transfers_[next_] = start(places, kind);
    if (!transfers_[next_]) return false;
    ++moves_;
  }
  return true;
}

std::optional<tiering::HomeTransfer> Window::start(const tiering::HomePlaces& places,
                                                   StateKind kind) {
  const tiering::StateHome& home = home_of(*range_.shard, kind);
  const std::uint64_t bytes = element_bytes(kind);
  const tiering::ByteRange range{range_.begin * bytes, (range_.end - range_.begin) * bytes};
  const std::span<std::byte> buffer = buffers_[index_of(kind)];
  return hop_ == Hop::kFetch ? fetch_home(places, home, range, buffer)
                             : flush_home(places, home, range, buffer);
}

void Window::end_what_arrived() {
  for (auto& transfer : transfers_)
    if (transfer && transfer->done()) end(transfer);
}

/// Waits for the transfer, and lets go of it even if that throws.
void Window::end(std::optional<tiering::HomeTransfer>& transfer) {
  ++moves_;
  tiering::HomeTransfer ended = std::move(*transfer);
  transfer.reset();
  ended.wait();
}

bool Window::has_transfers() const {
  return std::ranges::any_of(transfers_, [](const auto& transfer) { return transfer.has_value(); });
}

void Window::wait_for_oldest(Counters* waits) {
  const auto oldest =
      std::ranges::find_if(transfers_, [](const auto& transfer) { return transfer.has_value(); });
  STRATA_CHECK(oldest != transfers_.end(), "nothing to wait for");
  const bool is_over = (*oldest)->done();
  const ScopedTimer standing_still(is_over ? nullptr : waits, hop_, ScopedTimer::Kind::kWait,
                                   name());
  end(*oldest);
}

std::uint64_t Window::bytes() const {
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < data_.size(); ++i) {
    bytes += (range_.end - range_.begin) * element_bytes(static_cast<StateKind>(i));
  }
  return bytes;
}

void Window::note_reads(ScopedTimer& timer) const {
  for (std::size_t i = 0; i < data_.size(); ++i) {
    const auto kind = static_cast<StateKind>(i);
    if (!is_elsewhere(kind)) continue;
    timer.reads(memory_range({data_[i], (range_.end - range_.begin) * element_bytes(kind)}));
  }
}

void Window::abandon() {
  for (auto& transfer : transfers_) transfer.reset();
  next_ = transfers_.size();
}

PerState<std::uint64_t> window_buffer_bytes(std::span<const StateFormat> formats,
                                            std::uint64_t elements, bool gradients_on_nvme,
                                            std::uint64_t alignment) {
  PerState<std::uint64_t> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto kind = static_cast<StateKind>(i);
    if (kind == StateKind::kGradient && !gradients_on_nvme) continue;
    constexpr bool kAccumulated = true;  // the larger of the two gradient formats
    std::uint64_t element_bytes = 0;
    for (const StateFormat& format : formats)
      element_bytes = std::max(element_bytes, state_bytes(format, kind, kAccumulated));
    bytes[i] = round_up(elements * element_bytes, alignment);
  }
  return bytes;
}

std::vector<Window> make_windows(std::size_t count, const PerState<std::uint64_t>& bytes,
                                 std::span<std::byte> memory) {
  std::vector<Window> windows;
  windows.reserve(count);
  for (std::size_t w = 0; w < count; ++w) {
    PerState<std::span<std::byte>> buffers;
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      buffers[i] = memory.first(bytes[i]);
      memory = memory.subspan(bytes[i]);
    }
    windows.emplace_back(buffers);
  }
  return windows;
}

}  // namespace strata::optim_cpu
