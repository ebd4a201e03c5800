#include "support/race_clock.h"

#include <algorithm>
#include <iterator>

namespace strata::support {
namespace {

std::string name_of_timeline(Timeline timeline) {
  if (timeline == kHostTimeline) return "the host";
  return "stream " + std::string(tiering::name_of(static_cast<tiering::StreamRole>(timeline - 1)));
}

}  // namespace

void RaceClock::operate(Timeline timeline, const std::string& name,
                        std::span<const AddressRange> reads, std::span<const AddressRange> writes) {
  join(timeline, clocks_[kHostTimeline]);
  Access access{timeline, ++clocks_[timeline][timeline], false,
                std::make_shared<const std::string>(name)};
  reported_.clear();
  for (const AddressRange& range : reads) touch(range, access);
  access.is_write = true;
  for (const AddressRange& range : writes) touch(range, access);
  if (cells_.size() > sweep_beyond_) sweep();
}

bool RaceClock::is_behind(Timeline timeline, const VectorClock& point) const {
  for (Timeline other = 0; other < kTimelines; ++other) {
    if (std::max(clocks_[timeline][other], clocks_[kHostTimeline][other]) < point[other]) {
      return false;
    }
  }
  return true;
}

void RaceClock::join(Timeline timeline, const VectorClock& point) {
  for (Timeline other = 0; other < kTimelines; ++other) {
    clocks_[timeline][other] = std::max(clocks_[timeline][other], point[other]);
  }
}

void RaceClock::call(AddressRange range, const std::string& name) {
  names_[range.address] = {range.bytes, name};
}

void RaceClock::touch(AddressRange range, const Access& access) {
  const std::uintptr_t end = range.address + range.bytes;
  split(range.address);
  split(end);
  auto next = cells_.lower_bound(range.address);
  for (std::uintptr_t position = range.address; position < end;) {
    if (next == cells_.end() || next->first > position) {  // nobody touched these bytes so far
      const std::uintptr_t gap_end = next == cells_.end() ? end : std::min(end, next->first);
      next = cells_.emplace_hint(next, position, Cell{gap_end, {}});
    }
    compare(*next, access);
    forget_what_is_over(next->second);
    next->second.accesses.push_back(access);
    position = next->second.end;
    ++next;
  }
}

void RaceClock::compare(const Cells::value_type& cell, const Access& access) {
  for (const Access& before : cell.second.accesses) {
    const bool conflict = before.is_write || access.is_write;
    if (!conflict || clocks_[access.timeline][before.timeline] >= before.time) continue;
    if (std::ranges::find(reported_, before.operation.get()) != reported_.end()) continue;
    reported_.push_back(before.operation.get());
    const auto side = [](const Access& one) {
      return "'" + *one.operation + "' of " + name_of_timeline(one.timeline) +
             (one.is_write ? " writes" : " reads");
    };
    races_.push_back({*before.operation, *access.operation,
                      side(before) + " and " + side(access) + " " +
                          describe(cell.first, cell.second.end - cell.first) +
                          ", and no event orders them"});
  }
}

void RaceClock::split(std::uintptr_t address) {
  const auto after = cells_.upper_bound(address);
  if (after == cells_.begin()) return;
  const auto cell = std::prev(after);
  if (cell->first == address || cell->second.end <= address) return;
  cells_.emplace_hint(after, address, cell->second);
  cell->second.end = address;
}

// Whatever is told from now on comes after all that the host has seen, so nothing can race with it.
void RaceClock::forget_what_is_over(Cell& cell) {
  std::erase_if(cell.accesses, [this](const Access& access) {
    return clocks_[kHostTimeline][access.timeline] >= access.time;
  });
}

void RaceClock::sweep() {
  for (auto cell = cells_.begin(); cell != cells_.end();) {
    forget_what_is_over(cell->second);
    cell = cell->second.accesses.empty() ? cells_.erase(cell) : std::next(cell);
  }
  sweep_beyond_ = std::max<std::size_t>(1024, 2 * cells_.size());
}

// No address is printed: a report is the same in every run.
std::string RaceClock::describe(std::uintptr_t address, std::uint64_t bytes) const {
  const auto after = names_.upper_bound(address);
  if (after != names_.begin()) {
    const auto& [start, named] = *std::prev(after);
    const std::uint64_t offset = address - start;
    if (offset < named.bytes) {
      return "bytes " + std::to_string(offset) + " to " + std::to_string(offset + bytes) + " of '" +
             named.name + "'";
    }
  }
  return std::to_string(bytes) + " bytes of unregistered host memory";
}

}  // namespace strata::support
