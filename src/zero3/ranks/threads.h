#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

#include "zero3/ranks/ranks.h"

namespace strata::zero3 {

/// Several ranks in one process, a thread each: for tests, with everything that goes wrong between
/// processes. Bytes are moved by a thread of the group's own, one collective after the other, so
/// that they move while ranks compute, and a rank that touches what it has lent is found by a
/// sanitizer of threads. Memory that is being received to is filled with 0xFF bytes (NaN in every
/// format) until the bytes come.
///
///     ThreadRanks group({.size = 2});
///     std::jthread a([&] { train(*group.join(0)); });
///     std::jthread b([&] { train(*group.join(1)); });
class ThreadRanks {
 public:
  struct Death {
    int rank = 0;
    std::uint64_t collective = 1;  ///< the rank dies when it comes to this one, counted from 1
  };
  struct Options {
    int size = 1;
    std::chrono::milliseconds deadline{60'000};  ///< of a single wait
    /// Before a rank comes to a collective, and before the bytes of one are moved, passes a time of
    /// at most this, another one for each rank and collective. Those follow from the seed alone.
    std::chrono::microseconds delay_max{0};
    std::uint64_t delay_seed = 0;
    /// This rank's collective throws RankFailure that names itself, as if its process had ended.
    std::optional<Death> death = std::nullopt;
  };

  /// Throws UsageError for a group without ranks.
  explicit ThreadRanks(const Options& options);
  ~ThreadRanks();
  ThreadRanks(const ThreadRanks&) = delete;
  ThreadRanks& operator=(const ThreadRanks&) = delete;

  /// This rank's end, which may outlive the group. A rank that never joins is one that has not
  /// come. Thread: any. Throws UsageError for a rank that there is not, or that has joined before.
  [[nodiscard]] std::unique_ptr<Ranks> join(int rank);

 private:
  class Group;
  class Pending;
  class Rank;
  std::shared_ptr<Group> group_;
};

}  // namespace strata::zero3
