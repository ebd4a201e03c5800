#include "strata/base/timeline.h"

#include <exception>
#include <iterator>

namespace strata {

void Timeline::add(const TimelineEntry& entry) noexcept {
  const std::lock_guard lock(mutex_);
  if (record_.spans.size() >= spans_max_) {
    ++record_.dropped;
    return;
  }
  try {
    const auto span = static_cast<std::uint32_t>(record_.spans.size());
    record_.spans.push_back({.kind = entry.kind,
                             .hop = entry.hop,
                             .name = index_of(entry.name),
                             .slot = entry.slot,
                             .bytes = entry.bytes,
                             .begin = entry.begin,
                             .end = entry.end});
    for (const MemoryRange& range : entry.reads) take(range, span);
    put(entry.writes, span);
  } catch (const std::exception&) {  // no memory
    ++record_.dropped;
  }
}

void Timeline::sample(std::string_view name, std::uint64_t value, Time at) noexcept {
  const std::lock_guard lock(mutex_);
  if (record_.samples.size() >= spans_max_) {
    ++record_.dropped;
    return;
  }
  try {
    record_.samples.push_back({.name = index_of(name), .value = value, .at = at});
  } catch (const std::exception&) {
    ++record_.dropped;
  }
}

TimelineRecord Timeline::read() const {
  const std::lock_guard lock(mutex_);
  return record_;
}

std::uint32_t Timeline::index_of(std::string_view name) {
  const auto next = static_cast<std::uint32_t>(record_.names.size());
  const auto [place, is_new] = indices_.try_emplace(std::string(name), next);
  if (is_new) record_.names.emplace_back(name);
  return place->second;
}

std::map<std::uintptr_t, Timeline::Written>::iterator Timeline::first_beyond(
    std::uintptr_t address) {
  auto found = written_.upper_bound(address);
  if (found != written_.begin() && std::prev(found)->second.end > address) --found;
  return found;
}

/// Draws an arrow from every span whose bytes lie in the range, and forgets them.
void Timeline::take(MemoryRange range, std::uint32_t reader) {
  auto written = first_beyond(range.address);
  while (written != written_.end() && written->first < range.address + range.bytes) {
    if (record_.flows.size() < spans_max_) {
      record_.flows.push_back({.from = written->second.span, .to = reader});
    } else {
      ++record_.dropped;
    }
    written = written_.erase(written);
  }
}

void Timeline::put(MemoryRange range, std::uint32_t writer) {
  if (range.bytes == 0) return;
  const std::uintptr_t end = range.address + range.bytes;
  auto written = first_beyond(range.address);
  while (written != written_.end() && written->first < end) written = written_.erase(written);
  written_.insert_or_assign(range.address, Written{end, writer});
}

PhaseScope::~PhaseScope() {
  if (timeline_ == nullptr) return;
  timeline_->add(
      {.kind = SpanKind::kPhase, .name = name_, .begin = begin_, .end = kSystemClock.now()});
}

}  // namespace strata
