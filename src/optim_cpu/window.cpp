#include "optim_cpu/window.h"

#include <algorithm>

#include "strata/base/error.h"

namespace strata::optim_cpu {

const StateHome& home_of(const ShardStates& shard, StateKind kind) {
  switch (kind) {
    case StateKind::kWeight: return shard.weight;
    case StateKind::kMaster: return shard.master;
    case StateKind::kM: return shard.m;
    case StateKind::kV: return shard.v;
    case StateKind::kGradient: break;
  }
  return shard.gradient;
}

std::vector<Segment>::const_iterator segment_at(const ShardStates& shard, std::uint64_t element) {
  return std::ranges::partition_point(
      shard.segments, [&](const Segment& segment) { return segment.end <= element; });
}

bool has_updates(const WindowRange& range) {
  const std::vector<Segment>& segments = range.shard->segments;
  for (auto segment = segment_at(*range.shard, range.begin);
       segment != segments.end() && segment->begin < range.end; ++segment)
    if (segment->group != kNotUpdated) return true;
  return false;
}

void Window::begin(const WindowRange& range) {
  STRATA_CHECK(all_done() && !has_transfers(), "a window was reused while it was under way");
  range_ = range;
  hop_ = Hop::kFetch;
  next_ = 0;
  for (std::size_t i = 0; i < data_.size(); ++i) {
    const auto kind = static_cast<StateKind>(i);
    const std::span<std::byte> memory = home_of(*range.shard, kind).memory;
    if (on_nvme(kind))
      data_[i] = buffers_[i].data();
    else
      data_[i] = memory.empty() ? nullptr : memory.data() + range.begin * element_bytes(kind);
  }
}

void Window::begin_flush() {
  hop_ = Hop::kFlush;
  next_ = 0;
}

bool Window::on_nvme(StateKind kind) const {
  return home_of(*range_.shard, kind).extent.has_value();
}

std::uint64_t Window::element_bytes(StateKind kind) const {
  return state_bytes(range_.shard->format, kind, range_.shard->gradient_fp32);
}

bool Window::start_transfers(tiering::ShardStore* store) {
  for (; next_ < transfers_.size(); ++next_) {
    const auto kind = static_cast<StateKind>(next_);
    if (!on_nvme(kind) || (hop_ == Hop::kFlush && kind == StateKind::kGradient)) continue;
    transfers_[next_] = start(*store, kind);
    if (!transfers_[next_]) return false;
  }
  return true;
}

std::optional<tiering::Transfer> Window::start(tiering::ShardStore& store, StateKind kind) {
  const tiering::Extent extent = *home_of(*range_.shard, kind).extent;
  const std::uint64_t bytes = element_bytes(kind);
  const tiering::ByteRange range{range_.begin * bytes, (range_.end - range_.begin) * bytes};
  const std::span<std::byte> buffer =
      buffers_[index_of(kind)].first(store.buffer_bytes(range.bytes));
  return hop_ == Hop::kFetch ? fetch(store, extent, range, buffer)
                             : flush(store, extent, range, buffer);
}

bool Window::all_done() const {
  return all_started() && std::ranges::all_of(transfers_, [](const auto& transfer) {
           return !transfer || transfer->done();
         });
}

bool Window::has_transfers() const {
  return std::ranges::any_of(transfers_, [](const auto& transfer) { return transfer.has_value(); });
}

void Window::wait_for_oldest(Counters& counters) {
  const auto oldest =
      std::ranges::find_if(transfers_, [](const auto& transfer) { return transfer.has_value(); });
  STRATA_CHECK(oldest != transfers_.end(), "nothing to wait for");
  std::optional<ScopedTimer> standing_still;
  if (!(*oldest)->done()) standing_still.emplace(counters, hop_, ScopedTimer::Kind::kWait);
  (*oldest)->wait();
  oldest->reset();
}

void Window::abandon() {
  for (auto& transfer : transfers_) transfer.reset();
  next_ = transfers_.size();
}

}  // namespace strata::optim_cpu
