#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "strata/base/clock.h"
#include "strata/base/hop.h"

/// \file
/// A recording of what every hop did and when: spans, arrows from a read to the use of its bytes,
/// and samples of quantities. `Counters` add up; a timeline keeps each piece apart.

namespace strata {

/// A stretch of memory, by the address that its device knows it by.
struct MemoryRange {
  std::uintptr_t address = 0;
  std::uint64_t bytes = 0;
};

/// The range of host memory.
[[nodiscard]] inline MemoryRange memory_range(std::span<const std::byte> memory) noexcept {
  return {reinterpret_cast<std::uintptr_t>(memory.data()), memory.size()};
}

enum class SpanKind : std::uint8_t {
  kPhase,     ///< a part of the run ("step 3", "forward"); its hop means nothing
  kBusy,      ///< a thread does the hop's own work
  kWait,      ///< a thread stands still for the hop
  kTransfer,  ///< bytes are under way, in one of several slots
};

/// A span as it is handed over, at its end. Everything is copied.
struct TimelineEntry {
  SpanKind kind = SpanKind::kBusy;
  Hop hop = Hop::kFetch;
  std::string_view name = {};  ///< the unit, or the extent ("blocks.3 m"); may be empty
  std::uint32_t slot = 0;      ///< tells spans of a kind apart that overlap
  std::uint64_t bytes = 0;     ///< bytes moved or worked on; 0: not known
  Time begin = {}, end = {};
  std::span<const MemoryRange> reads = {};  ///< memory that it takes its bytes from
  MemoryRange writes = {};                  ///< memory that it leaves them in
};

/// What a timeline has recorded, in the order in which spans ended.
struct TimelineRecord {
  struct Span {
    SpanKind kind;
    Hop hop;
    std::uint32_t name;  ///< index into `names`
    std::uint32_t slot;
    std::uint64_t bytes;
    Time begin, end;
  };
  /// The bytes that span `from` left in memory were taken from there by span `to`.
  struct Flow {
    std::uint32_t from, to;
  };
  struct Sample {
    std::uint32_t name;
    std::uint64_t value;
    Time at;
  };
  std::vector<std::string> names;
  std::vector<Span> spans;
  std::vector<Flow> flows;
  std::vector<Sample> samples;
  std::uint64_t dropped = 0;  ///< spans, flows and samples there was no room for
};

/// Records spans in a bounded memory. Hand it to `Counters::record_into`, and take it away again:
///
///     Timeline timeline;
///     counters.record_into(&timeline);
///     ... a few steps ...
///     counters.record_into(nullptr);
///     TimelineRecord record = timeline.read();
///
/// Flows follow memory: a span that reads where an earlier one has written gets an arrow from it,
/// once for each write. So the recorder needs to know nothing of who moves what for whom.
///
/// Thread-safe. Once it is full the earliest spans stay, and what comes later is left out and
/// counted in `dropped`, like what finds no memory: recording never fails its caller.
class Timeline {
 public:
  static constexpr std::size_t kSpansMax = 1u << 18;  ///< some 30 MB when it is full

  /// Keeps at most `spans_max` spans, as many flows and as many samples.
  explicit Timeline(std::size_t spans_max = kSpansMax) : spans_max_(spans_max) {}

  void add(const TimelineEntry& entry) noexcept;
  /// Notes the value of a quantity ("host bytes").
  void sample(std::string_view name, std::uint64_t value, Time at) noexcept;

  /// All there is so far.
  [[nodiscard]] TimelineRecord read() const;

 private:
  /// Bytes that nobody has taken yet, by their first address.
  struct Written {
    std::uintptr_t end;
    std::uint32_t span;
  };

  [[nodiscard]] std::uint32_t index_of(std::string_view name);
  void take(MemoryRange range, std::uint32_t reader);
  void put(MemoryRange range, std::uint32_t writer);
  /// The first entry that reaches beyond `address`.
  [[nodiscard]] std::map<std::uintptr_t, Written>::iterator first_beyond(std::uintptr_t address);

  const std::size_t spans_max_;
  mutable std::mutex mutex_;
  TimelineRecord record_;
  std::unordered_map<std::string, std::uint32_t> indices_;
  std::map<std::uintptr_t, Written> written_;
};

/// Records a part of the run, for the length of a scope; nothing when `timeline` is null.
class PhaseScope {
 public:
  PhaseScope(Timeline* timeline, std::string name)
      : timeline_(timeline), name_(std::move(name)), begin_(kSystemClock.now()) {}
  ~PhaseScope();
  PhaseScope(const PhaseScope&) = delete;
  PhaseScope& operator=(const PhaseScope&) = delete;

 private:
  Timeline* timeline_;
  std::string name_;
  Time begin_;
};

}  // namespace strata
