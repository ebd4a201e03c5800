#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "disk_time.h"
#include "runner.h"
#include "search_space.h"

/// \file
/// Finds the setting at which a disk does a training step's reads and writes soonest.
///
/// Successive halving: a coarse lattice is measured for a short time each, the better third for
/// longer, and so on; then the search climbs, measuring the neighbours of the best beside it until
/// none is better; last, the finalists are measured in turns, several times, and compared by their
/// medians. Settings are only ever compared with those measured beside them in the same round, so
/// that a drive that slows down while it is written (or a busy machine) does not favour the first
/// ones. Finalists whose difference is within `SearchOptions::tie` are a tie, which the
/// cheaper one wins: less memory in flight, then fewer threads, then less CPU time.

namespace strata::nvme_bench {

struct SearchOptions {
  std::chrono::nanoseconds budget = std::chrono::seconds(75);  ///< for all measurements together
  double tie = 0.01;
  Traffic traffic = kTrainingTraffic;
};

/// A setting with its measurements in the last round it took part in.
struct Candidate {
  Setting setting;
  DiskSpeeds speeds;
  double cpu_seconds_per_gigabyte = 0;
  /// Seconds per unit of the traffic. Less is better; infinite after a failure.
  double seconds = 0;
  std::string failure;  ///< reason why it is out of the running; "": it is not
};

/// One line of the search's log.
struct Round {
  std::string name;                  ///< "lattice", "halving", "climb", "final"
  std::chrono::nanoseconds runtime;  ///< time of each measurement
  std::vector<Candidate> ranking;    ///< the best first
};

struct SearchResult {
  Candidate best;
  std::vector<Candidate> finalists;  ///< the best first; before ties were resolved
  std::vector<Round> rounds;
  std::vector<PointResult> points;  ///< every measurement, in order
  std::vector<std::string> notes;   ///< engines that do not work here, an early end
  std::uint64_t bytes_written = 0;  ///< written by all measurements
};

/// A function called before every round, for a progress line.
using OnRound = std::function<void(const std::string& name, std::size_t settings,
                                   std::chrono::nanoseconds expected)>;
/// Time gone by since some fixed moment: a steady clock, or a test's.
using ElapsedTime = std::function<std::chrono::nanoseconds()>;

/// A setting whose measurement throws ConfigError or IoError, or fails requests, is left out; other
/// exceptions (an interruption, DeadlineExceeded) pass through. Throws ConfigError when the files
/// are too small for every setting, IoError when none works, or when what worked at first fails
/// later; with the first failure.
[[nodiscard]] SearchResult search(const SearchSpace& space, const SearchOptions& options,
                                  const Measure& measure, const ElapsedTime& elapsed,
                                  const OnRound& on_round = {});

/// Measures a setting as a search does: both directions alone and, if `with_mix`, side by
/// side; every result is added to `points`. A measurement in whose time nothing was moved (a busy
/// machine, a disk that writes back its cache) is taken again for four times as long, up to
/// seconds; after that it is a failure.
[[nodiscard]] Candidate measure_setting(const Setting& setting, const Limits& limits, bool with_mix,
                                        const Traffic& traffic, const Measure& measure,
                                        std::vector<PointResult>& points);

/// The settings among `points`, each with its last measurements, the best first: for a search that
/// did not come to its end. Settings without both directions are last.
[[nodiscard]] std::vector<Candidate> candidates_of(std::span<const PointResult> points,
                                                   const Traffic& traffic);

/// The median of several measurements of one setting, figure by figure; the failure of the first
/// one that failed, if one did.
[[nodiscard]] Candidate median_of(std::span<const Candidate> turns, const Traffic& traffic);

}  // namespace strata::nvme_bench
