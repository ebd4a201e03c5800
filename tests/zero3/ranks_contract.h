#pragma once

#include <cstddef>
#include <exception>
#include <functional>
#include <latch>
#include <span>
#include <string>
#include <vector>

#include "strata/base/error.h"
#include "zero3/ranks/ranks.h"

/// \file
/// The contract suite of Ranks (ranks_contract_test.cpp), and bytes that its tests and others
/// exchange. The suite is compiled into every program that has worlds for it.

namespace strata::zero3 {

/// A world to run the contract in: threads or processes.
struct ContractWorld {
  std::string name;
  /// Runs a body on every rank. Ranks may be processes: what they share is a SharedValue. None may
  /// throw or fail.
  std::function<void(const std::function<void(Ranks&)>&)> run;
};

/// The worlds of this program.
[[nodiscard]] std::vector<ContractWorld> contract_worlds();

/// The rank that a RankFailure names; -1 for any other error, and for none.
[[nodiscard]] inline int failed_rank(const std::exception_ptr& thrown) {
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const RankFailure& failure) {
    return failure.rank();
  } catch (const std::exception&) {
    return -1;
  }
  return -1;
}

/// The bytes of rank `from` for rank `to` in a round, different at every place.
inline std::byte byte_of(int round, int from, int to, std::size_t place) {
  return static_cast<std::byte>(round * 131 + from * 31 + to * 7 + static_cast<int>(place));
}

inline constexpr std::size_t kPiece = 100;

inline std::vector<std::byte> pieces(const Ranks& ranks) {
  return std::vector<std::byte>(kPiece * static_cast<std::size_t>(ranks.size()));
}

/// Places of rank `rank` in `buffer`.
template <class Bytes>
auto piece_of(Bytes& buffer, int rank) {
  return std::span(buffer).subspan(kPiece * static_cast<std::size_t>(rank), kPiece);
}

inline std::vector<std::byte> with_own_shard(const Ranks& ranks, int round) {
  std::vector<std::byte> buffer = pieces(ranks);
  const auto own = piece_of(buffer, ranks.rank());
  for (std::size_t i = 0; i < own.size(); ++i) own[i] = byte_of(round, ranks.rank(), 0, i);
  return buffer;
}

inline bool has_all_shards(const Ranks& ranks, int round, const std::vector<std::byte>& buffer) {
  for (int from = 0; from < ranks.size(); ++from) {
    const auto shard = piece_of(buffer, from);
    for (std::size_t i = 0; i < shard.size(); ++i)
      if (shard[i] != byte_of(round, from, 0, i)) return false;
  }
  return true;
}

/// Three steps of four collectives each, with several under way at a time.
inline void exchange_for_three_steps(Ranks& ranks) {
  for (int step = 0; step < 3; ++step) {
    std::vector<std::byte> first = with_own_shard(ranks, step);
    std::vector<std::byte> second = with_own_shard(ranks, step);
    std::vector<std::byte> received = pieces(ranks);
    Collective one = ranks.begin_all_gather(first);
    Collective two = ranks.begin_all_gather(second);
    one.wait();
    two.wait();
    ranks.begin_all_to_all(first, received).wait();
    (void)ranks.gather_values(step);
  }
}

/// Of four ranks the even ones begin a collective (`come` counts them, so that their deadlines
/// begin when both have come) and wait; the odd ones come to none before they have failed (`over`).
inline void wait_for_odd_ranks_that_stay_away(Ranks& ranks, std::latch& come, std::latch& over) {
  if (ranks.rank() % 2 == 1) {
    over.wait();
    return ranks.barrier();
  }
  std::vector<std::byte> buffer = with_own_shard(ranks, 1);
  Collective gathering = ranks.begin_all_gather(buffer);
  come.arrive_and_wait();
  try {
    gathering.wait();
  } catch (...) {
    over.count_down();
    throw;
  }
}

}  // namespace strata::zero3
