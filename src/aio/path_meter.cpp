#include "strata/aio/path_meter.h"

namespace strata::aio {
namespace {

// Bytes per parameter and step with everything on the disk, docs/ARCHITECTURE.md.
constexpr double kReadPart = 14;
constexpr double kWrittenPart = 12;

double rate_of(const PathTotals& totals, OpKind kind) {
  const std::chrono::duration<double> busy = totals.busy_of(kind);
  return busy.count() > 0 ? static_cast<double>(totals.bytes_of(kind)) / busy.count() : 0;
}

}  // namespace

double PathBandwidth::combined() const noexcept {
  if (read <= 0 || write <= 0) return 0;
  return (kReadPart + kWrittenPart) / (kReadPart / read + kWrittenPart / write);
}

PathBandwidth bandwidth_of(const PathTotals& totals) noexcept {
  return {.read = rate_of(totals, OpKind::kRead), .write = rate_of(totals, OpKind::kWrite)};
}

// One thread writes: relaxed loads and stores lose nothing.

void PathMeter::begin(OpKind kind, Time now) noexcept {
  Direction& direction = directions_[PathTotals::index(kind)];
  if (direction.in_flight++ == 0) direction.busy_since = now;
}

void PathMeter::end(OpKind kind, std::uint64_t bytes, Time now) noexcept {
  Direction& direction = directions_[PathTotals::index(kind)];
  const auto add = [](auto& counter, auto amount) {
    counter.store(counter.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  };
  add(direction.bytes, bytes);
  const std::chrono::nanoseconds busy = now - direction.busy_since;
  add(direction.busy_ns, busy.count());
  direction.busy_since = now;
  --direction.in_flight;
}

PathTotals PathMeter::totals() const noexcept {
  PathTotals totals;
  for (std::size_t i = 0; i < directions_.size(); ++i) {
    totals.bytes[i] = directions_[i].bytes.load(std::memory_order_relaxed);
    totals.busy[i] =
        std::chrono::nanoseconds(directions_[i].busy_ns.load(std::memory_order_relaxed));
  }
  return totals;
}

}  // namespace strata::aio
