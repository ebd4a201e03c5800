#include "strata/base/counters.h"

#include <span>

namespace strata {
namespace {

// The cells are independent totals; nobody infers the state of other memory from them.
constexpr auto kRelaxed = std::memory_order_relaxed;

std::uint64_t count_of(std::chrono::nanoseconds time) {
  return static_cast<std::uint64_t>(time.count());
}

}  // namespace

CounterReading CounterReading::operator-(const CounterReading& earlier) const {
  CounterReading interval;
  for (std::size_t i = 0; i < kHopCount; ++i) {
    interval.hops[i] = {.bytes = hops[i].bytes - earlier.hops[i].bytes,
                        .calls = hops[i].calls - earlier.hops[i].calls,
                        .busy_ns = hops[i].busy_ns - earlier.hops[i].busy_ns,
                        .wait_ns = hops[i].wait_ns - earlier.hops[i].wait_ns};
  }
  return interval;
}

void Counters::add_moved(Hop hop, std::uint64_t bytes) noexcept {
  Cell& cell = cells_[static_cast<std::size_t>(hop)];
  cell.bytes.fetch_add(bytes, kRelaxed);
  cell.calls.fetch_add(1, kRelaxed);
}

void Counters::add_busy(Hop hop, std::chrono::nanoseconds time) noexcept {
  cells_[static_cast<std::size_t>(hop)].busy_ns.fetch_add(count_of(time), kRelaxed);
}

void Counters::add_wait(Hop hop, std::chrono::nanoseconds time) noexcept {
  cells_[static_cast<std::size_t>(hop)].wait_ns.fetch_add(count_of(time), kRelaxed);
}

CounterReading Counters::read() const noexcept {
  CounterReading reading;
  for (std::size_t i = 0; i < kHopCount; ++i) {
    reading.hops[i] = {.bytes = cells_[i].bytes.load(kRelaxed),
                       .calls = cells_[i].calls.load(kRelaxed),
                       .busy_ns = cells_[i].busy_ns.load(kRelaxed),
                       .wait_ns = cells_[i].wait_ns.load(kRelaxed)};
  }
  return reading;
}

ScopedTimer::~ScopedTimer() {
  if (counters_ == nullptr) return;
  const Time end = counters_->clock().now();
  const auto elapsed = end - start_;
  if (kind_ == Kind::kBusy) {
    counters_->add_busy(hop_, elapsed);
  } else {
    counters_->add_wait(hop_, elapsed);
  }
  Timeline* const timeline = counters_->timeline();
  if (timeline == nullptr) return;
  timeline->add({.kind = kind_ == Kind::kBusy ? SpanKind::kBusy : SpanKind::kWait,
                 .hop = hop_,
                 .name = name_,
                 .bytes = bytes_,
                 .begin = start_,
                 .end = end,
                 .reads = std::span(reads_).first(read_count_),
                 .writes = writes_});
}

void ScopedTimer::reads(MemoryRange range) noexcept {
  if (read_count_ < kReadsMax) reads_[read_count_++] = range;
}

}  // namespace strata
