#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

#include "zero3/ranks/ranks.h"

namespace strata::zero3 {

/// Several ranks in one process, a thread each: for tests, with everything that goes wrong between
/// processes. A thread of the group's own moves the bytes, one collective after the other, so that
/// they move while ranks compute, and a thread sanitizer finds a rank that touches lent memory.
/// Memory that is being received to is filled with 0xFF bytes (NaN in every format) until the bytes
/// come.
///
/// All threads of a process draw from one generator of the CPU. Ranks whose bodies draw numbers
/// there draw one another's, also when they recompute: dropout needs devices of their own.
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
    std::chrono::milliseconds deadline{60'000};  ///< deadline of a single wait
    /// The longest delay before a rank comes to a collective, and before the bytes of one move.
    /// Delays differ between ranks and collectives; they follow from the seed alone.
    std::chrono::microseconds delay_max{0};
    std::uint64_t delay_seed = 0;
    /// The rank whose collective throws a RankFailure of itself, as if its process had ended.
    std::optional<Death> death = std::nullopt;
  };

  /// Throws UsageError for a group without ranks.
  explicit ThreadRanks(const Options& options);
  ~ThreadRanks();
  ThreadRanks(const ThreadRanks&) = delete;
  ThreadRanks& operator=(const ThreadRanks&) = delete;

  /// The end of rank `rank`, which may outlive the group. A rank that never joins has not come.
  /// Thread: any. Throws UsageError for a rank beyond the group, or one that has joined before.
  [[nodiscard]] std::unique_ptr<Ranks> join(int rank);

 private:
  class Group;
  class Pending;
  class Rank;
  std::shared_ptr<Group> group_;
};

}  // namespace strata::zero3
