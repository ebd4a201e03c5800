#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "strata/base/timeline.h"

namespace strata::tool {

/// Stretches of time in order that do not touch one another.
using Stretches = std::vector<std::pair<Time, Time>>;

/// Makes such stretches of any: those that touch or overlap become one.
[[nodiscard]] Stretches merged(Stretches stretches);
[[nodiscard]] std::chrono::nanoseconds length_of(const Stretches& stretches);
/// What is in `stretches` and not in `others`.
[[nodiscard]] Stretches without(const Stretches& stretches, const Stretches& others);

/// A hop over the traced steps.
struct TracedHop {
  std::uint64_t bytes = 0;            ///< bytes of its transfers
  Stretches busy;                     ///< a thread did its work
  Stretches under_way;                ///< bytes of its transfers were under way
  Stretches waited;                   ///< a thread stood still for it
  std::chrono::nanoseconds hidden{};  ///< under way while no thread stood still for any hop
};

/// The time that threads stood still for a unit in one hop.
struct Stall {
  std::string unit;
  Hop hop = Hop::kFetch;
  std::uint64_t times = 0;
  std::chrono::nanoseconds stood_still{};
};

struct TracedPhase {
  std::string name;
  Time begin, end;
};

/// What a trace comes to.
struct TraceSummary {
  std::array<TracedHop, kHopCount> hops;
  std::vector<Stall> stalls;          ///< the longest first
  std::vector<TracedPhase> phases;    ///< phases of steps, in order of their beginning
  std::vector<TracedPhase> steps;     ///< the steps themselves
  std::chrono::nanoseconds traced{};  ///< time of all traced steps
};

/// `trace` is one that was read from a file: without flows.
[[nodiscard]] TraceSummary summary_of(const TimelineRecord& trace);

}  // namespace strata::tool
