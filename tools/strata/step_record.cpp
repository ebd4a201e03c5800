#include "step_record.h"

#include <algorithm>
#include <chrono>

namespace strata::tool {
namespace {

double per_second(std::uint64_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0.0;
}

double compute_seconds(const Interval& interval) {
  return interval.busy_seconds[static_cast<std::size_t>(Hop::kCompute)];
}

}  // namespace

Interval& Interval::operator+=(const Interval& other) {
  seconds += other.seconds;
  tokens += other.tokens;
  read_bytes += other.read_bytes;
  written_bytes += other.written_bytes;
  gathered_bytes += other.gathered_bytes;
  reduced_bytes += other.reduced_bytes;
  disk_wait_seconds += other.disk_wait_seconds;
  disk_busy_seconds += other.disk_busy_seconds;
  for (std::size_t hop = 0; hop < kHopCount; ++hop) {
    busy_seconds[hop] += other.busy_seconds[hop];
    wait_seconds[hop] += other.wait_seconds[hop];
    hop_bytes[hop] += other.hop_bytes[hop];
  }
  return *this;
}

double Interval::tokens_per_second() const { return per_second(tokens, seconds); }
double Interval::read_bytes_per_second() const { return per_second(read_bytes, seconds); }
double Interval::written_bytes_per_second() const { return per_second(written_bytes, seconds); }
double Interval::disk_wait_share() const { return seconds > 0 ? disk_wait_seconds / seconds : 0.0; }

std::string_view Interval::binding_resource() const {
  return disk_busy_seconds > compute_seconds(*this) ? "disk" : "compute";
}

double Interval::bound_share() const {
  if (seconds <= 0) return 0.0;
  return std::min(1.0, std::max(disk_busy_seconds, compute_seconds(*this)) / seconds);
}

Interval interval_of(const CounterReading& moved, Time::duration time, std::uint64_t tokens,
                     Time::duration disk_busy) {
  const HopReading& fetch = moved[Hop::kFetch];
  const HopReading& flush = moved[Hop::kFlush];
  const HopReading& step = moved[Hop::kStep];  // waited for where its states pass through windows
  Interval interval{
      .seconds = std::chrono::duration<double>(time).count(),
      .tokens = tokens,
      .read_bytes = fetch.bytes,
      .written_bytes = flush.bytes,
      .disk_wait_seconds = static_cast<double>(fetch.wait_ns + flush.wait_ns + step.wait_ns) * 1e-9,
      .disk_busy_seconds = std::chrono::duration<double>(disk_busy).count()};
  for (std::size_t hop = 0; hop < kHopCount; ++hop) {
    interval.busy_seconds[hop] = static_cast<double>(moved.hops[hop].busy_ns) * 1e-9;
    interval.wait_seconds[hop] = static_cast<double>(moved.hops[hop].wait_ns) * 1e-9;
    interval.hop_bytes[hop] = moved.hops[hop].bytes;
  }
  return interval;
}

}  // namespace strata::tool
