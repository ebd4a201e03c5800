#include "zero3/ranks/ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <latch>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "strata/base/error.h"
#include "zero3/ranks/one_rank.h"
#include "zero3/ranks/threads.h"
#include "zero3/thread_world.h"

/// \file
/// Promises that every implementation of Ranks keeps, and what `threads` does when a rank does not.

namespace strata::zero3 {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::HasSubstr;

// ---- the contract ------------------------------------------------------------------------------

/// A world to run the contract in.
struct World {
  bool threads;
  int size;
  std::uint64_t seed = 0;  ///< seed of delays; 0: none
};

std::string name_of(const testing::TestParamInfo<World>& info) {
  const World& world = info.param;
  if (!world.threads) return "one_rank";
  return "threads_" + std::to_string(world.size) + "_seed_" + std::to_string(world.seed);
}

class RanksContract : public ::testing::TestWithParam<World> {
 protected:
  /// Runs `body` on every rank; none may throw.
  void run(const std::function<void(Ranks&)>& body) {
    const World& world = GetParam();
    if (!world.threads) {
      OneRank ranks;
      return body(ranks);
    }
    const auto thrown = run_ranks(
        {.size = world.size, .delay_max = world.seed == 0 ? 0us : 300us, .delay_seed = world.seed},
        body);
    for (const std::exception_ptr& each : thrown)
      if (each) std::rethrow_exception(each);
  }
};

/// The bytes of rank `from` for rank `to` in a round, different at every place.
std::byte byte_of(int round, int from, int to, std::size_t place) {
  return static_cast<std::byte>(round * 131 + from * 31 + to * 7 + static_cast<int>(place));
}

constexpr std::size_t kPiece = 100;

std::vector<std::byte> pieces(const Ranks& ranks) {
  return std::vector<std::byte>(kPiece * static_cast<std::size_t>(ranks.size()));
}

/// Places of rank `rank` in `buffer`.
template <class Bytes>
auto piece_of(Bytes& buffer, int rank) {
  return std::span(buffer).subspan(kPiece * static_cast<std::size_t>(rank), kPiece);
}

std::vector<std::byte> with_own_shard(const Ranks& ranks, int round) {
  std::vector<std::byte> buffer = pieces(ranks);
  const auto own = piece_of(buffer, ranks.rank());
  for (std::size_t i = 0; i < own.size(); ++i) own[i] = byte_of(round, ranks.rank(), 0, i);
  return buffer;
}

bool has_all_shards(const Ranks& ranks, int round, const std::vector<std::byte>& buffer) {
  for (int from = 0; from < ranks.size(); ++from) {
    const auto shard = piece_of(buffer, from);
    for (std::size_t i = 0; i < shard.size(); ++i)
      if (shard[i] != byte_of(round, from, 0, i)) return false;
  }
  return true;
}

TEST_P(RanksContract, AllGatherGivesEveryRankTheShardsOfAll) {
  run([](Ranks& ranks) {
    for (int round = 0; round < 20; ++round) {
      std::vector<std::byte> buffer = with_own_shard(ranks, round);
      ranks.begin_all_gather(buffer).wait();
      ASSERT_TRUE(has_all_shards(ranks, round, buffer)) << round;
    }
  });
}

TEST_P(RanksContract, AllToAllGivesEveryRankThePieceThatIsForIt) {
  run([](Ranks& ranks) {
    for (int round = 0; round < 20; ++round) {
      std::vector<std::byte> send = pieces(ranks);
      std::vector<std::byte> receive = pieces(ranks);
      for (int to = 0; to < ranks.size(); ++to)
        for (std::size_t i = 0; i < kPiece; ++i)
          piece_of(send, to)[i] = byte_of(round, ranks.rank(), to, i);
      ranks.begin_all_to_all(send, receive).wait();
      for (int from = 0; from < ranks.size(); ++from)
        for (std::size_t i = 0; i < kPiece; ++i)
          ASSERT_EQ(piece_of(receive, from)[i], byte_of(round, from, ranks.rank(), i));
    }
  });
}

TEST_P(RanksContract, GatherValuesReturnsEveryRanksValueInRankOrder) {
  run([](Ranks& ranks) {
    for (int round = 0; round < 20; ++round) {
      const std::vector<double> values = ranks.gather_values(round + 0.5 * ranks.rank());
      ASSERT_EQ(values.size(), static_cast<std::size_t>(ranks.size()));
      for (int rank = 0; rank < ranks.size(); ++rank)
        ASSERT_EQ(values[static_cast<std::size_t>(rank)], round + 0.5 * rank);
    }
  });
}

TEST_P(RanksContract, NoRankPassesABarrierBeforeAllHaveCome) {
  std::atomic<int> come = 0;
  run([&](Ranks& ranks) {
    for (int round = 1; round <= 20; ++round) {
      ++come;
      ranks.barrier();
      ASSERT_GE(come, round * ranks.size());
    }
  });
}

TEST_P(RanksContract, CollectivesUnderWayTogetherMayBeWaitedForInAnyOrder) {
  run([](Ranks& ranks) {
    for (int round = 0; round < 10; ++round) {
      std::vector<std::vector<std::byte>> buffers;
      for (int i = 0; i < 4; ++i) buffers.push_back(with_own_shard(ranks, 4 * round + i));
      std::vector<Collective> under_way;
      for (auto& buffer : buffers) under_way.push_back(ranks.begin_all_gather(buffer));
      const bool forwards = (round + ranks.rank()) % 2 == 0;
      for (int i = 0; i < 4; ++i) {
        const int which = forwards ? i : 3 - i;
        under_way[static_cast<std::size_t>(which)].wait();
        ASSERT_TRUE(
            has_all_shards(ranks, 4 * round + which, buffers[static_cast<std::size_t>(which)]));
      }
    }
  });
}

TEST_P(RanksContract, ACollectiveThatIsDoneNeedsNoWait) {
  run([](Ranks& ranks) {
    std::vector<std::byte> buffer = with_own_shard(ranks, 1);
    Collective gathering = ranks.begin_all_gather(buffer);
    while (!gathering.done()) std::this_thread::yield();
    ASSERT_TRUE(has_all_shards(ranks, 1, buffer));
    gathering.wait();
    gathering.wait();
  });
}

TEST_P(RanksContract, NothingIsDoneBeforeTheLastRankHasCome) {
  std::latch first_has_looked(1);
  run([&](Ranks& ranks) {
    std::vector<std::byte> buffer = with_own_shard(ranks, 1);
    if (ranks.size() > 1 && ranks.rank() == ranks.size() - 1) first_has_looked.wait();
    Collective gathering = ranks.begin_all_gather(buffer);
    if (ranks.rank() == 0) {
      EXPECT_FALSE(ranks.size() > 1 && gathering.done());
      first_has_looked.count_down();
    }
    gathering.wait();
    ASSERT_TRUE(gathering.done());
  });
}

TEST_P(RanksContract, NoBytesAtAllAreAllRight) {
  run([](Ranks& ranks) {
    ranks.begin_all_gather({}).wait();
    ranks.begin_all_to_all({}, {}).wait();
  });
}

TEST_P(RanksContract, RefusesWhatCannotBeSharedOutAndGoesOn) {
  run([](Ranks& ranks) {
    std::vector<std::byte> bytes(kPiece * static_cast<std::size_t>(ranks.size()) + 1);
    std::vector<std::byte> fewer(kPiece * static_cast<std::size_t>(ranks.size()));
    EXPECT_THROW((void)ranks.begin_all_to_all(bytes, fewer), UsageError);
    if (ranks.size() > 1) {
      EXPECT_THROW((void)ranks.begin_all_gather(bytes), UsageError);
      EXPECT_THROW((void)ranks.begin_all_to_all(fewer, fewer), UsageError);
    }
    ranks.barrier();
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, RanksContract,
                         ::testing::Values(World{false, 1}, World{true, 1}, World{true, 2},
                                           World{true, 2, 1}, World{true, 2, 2}, World{true, 3},
                                           World{true, 3, 3}, World{true, 4}, World{true, 4, 4},
                                           World{true, 4, 5}, World{true, 8}, World{true, 8, 6}),
                         name_of);

TEST(OneRank, MovesNothingWhereItReceivesWhatItSends) {
  OneRank ranks;
  std::vector<std::byte> bytes(10, std::byte{7});
  EXPECT_TRUE(ranks.begin_all_to_all(bytes, bytes).done());
  EXPECT_EQ(bytes, std::vector(10, std::byte{7}));
}

// ---- what goes wrong ---------------------------------------------------------------------------

std::string text_of(const std::exception_ptr& thrown) {
  if (!thrown) return "nothing";
  try {
    std::rethrow_exception(thrown);
  } catch (const std::exception& error) {
    return error.what();
  }
}

template <class Type>
bool is_a(const std::exception_ptr& thrown) {
  if (!thrown) return false;
  try {
    std::rethrow_exception(thrown);
  } catch (const Type&) {
    return true;
  } catch (...) {
    return false;
  }
}

int failed_rank(const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const RankFailure& failure) {
    return failure.rank();
  } catch (...) {
    return -1;
  }
}

/// A few steps, with several collectives under way at a time.
void train(Ranks& ranks) {
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

TEST(ThreadRanks, ARankThatDiesAnywhereIsNamedOnAllOthersAndNoneHangs) {
  for (const int size : {2, 3, 4})
    for (int dying = 0; dying < size; ++dying)
      for (std::uint64_t nth = 1; nth <= 12; ++nth) {
        const auto thrown = run_ranks({.size = size,
                                       .delay_max = nth % 2 == 0 ? 0us : 200us,
                                       .delay_seed = nth,
                                       .death = ThreadRanks::Death{dying, nth}},
                                      train);
        for (const std::exception_ptr& each : thrown) {
          ASSERT_EQ(failed_rank(each), dying) << size << " ranks, collective " << nth;
          ASSERT_THAT(text_of(each), HasSubstr("rank " + std::to_string(dying) + " died"));
        }
      }
}

TEST(ThreadRanks, ADeathAfterTheLastCollectiveChangesNothing) {
  const auto thrown =
      run_ranks({.size = 2, .death = ThreadRanks::Death{.rank = 1, .collective = 13}}, train);
  for (const std::exception_ptr& each : thrown) EXPECT_EQ(text_of(each), "nothing");
}

TEST(ThreadRanks, AnErrorOfOneRankReachesAllOthers) {
  const auto thrown = run_ranks({.size = 3}, [](Ranks& ranks) {
    train(ranks);
    if (ranks.rank() == 1) throw std::runtime_error("the disk is full");
    train(ranks);
  });
  EXPECT_EQ(text_of(thrown[1]), "the disk is full");
  for (const int rank : {0, 2}) {
    EXPECT_EQ(failed_rank(thrown[static_cast<std::size_t>(rank)]), 1);
    EXPECT_THAT(text_of(thrown[static_cast<std::size_t>(rank)]), HasSubstr("rank 1 left"));
  }
}

TEST(ThreadRanks, ARankThatIsThroughDoesNotDisturbTheOthers) {
  const auto thrown = run_ranks({.size = 4, .delay_max = 2ms, .delay_seed = 9},
                                [](Ranks& ranks) { ranks.barrier(); });
  for (const std::exception_ptr& each : thrown) EXPECT_EQ(text_of(each), "nothing");
}

TEST(ThreadRanks, DifferentCallsAreAnErrorThatNamesBothRanksAndBothCalls) {
  for (const int odd_one : {0, 1, 2}) {
    const auto thrown = run_ranks({.size = 3}, [&](Ranks& ranks) {
      ranks.barrier();
      std::vector<std::byte> buffer = pieces(ranks);
      if (ranks.rank() == odd_one)
        return ranks.begin_all_gather(std::span(buffer).first(60)).wait();
      ranks.begin_all_gather(buffer).wait();
    });
    for (const std::exception_ptr& each : thrown) {
      EXPECT_TRUE(is_a<UsageError>(each));
      EXPECT_THAT(text_of(each), AllOf(HasSubstr("collective 2"), HasSubstr("all_gather of 3 x 20"),
                                       HasSubstr("all_gather of 3 x 100"),
                                       HasSubstr("rank " + std::to_string(odd_one) + " calls")));
    }
  }
}

TEST(ThreadRanks, DifferentKindsOfTheSameSizeAreAnErrorToo) {
  const auto thrown = run_ranks({.size = 2}, [&](Ranks& ranks) {
    std::vector<std::byte> buffer = pieces(ranks);
    std::vector<std::byte> other = pieces(ranks);
    if (ranks.rank() == 0) return ranks.begin_all_to_all(buffer, other).wait();
    ranks.begin_all_gather(buffer).wait();
  });
  for (const std::exception_ptr& each : thrown)
    EXPECT_THAT(text_of(each), AllOf(HasSubstr("all_to_all of 2 x 100 bytes"),
                                     HasSubstr("all_gather of 2 x 100 bytes")));
}

TEST(ThreadRanks, ADeadlineNamesTheRanksThatHaveNotCome) {
  std::latch over(2);
  const auto thrown = run_ranks({.size = 4, .deadline = 50ms}, [&](Ranks& ranks) {
    if (ranks.rank() == 1 || ranks.rank() == 3) over.wait();
    try {
      ranks.barrier();
    } catch (...) {
      if (ranks.rank() % 2 == 0) over.count_down();
      throw;
    }
  });
  for (const std::exception_ptr& each : thrown) {
    EXPECT_TRUE(is_a<DeadlineExceeded>(each));
    EXPECT_THAT(text_of(each), AllOf(HasSubstr("50 ms"), HasSubstr("collective 1 (barrier)"),
                                     HasSubstr("ranks 1, 3 have not come")));
  }
}

TEST(ThreadRanks, ARankThatNeverJoinsHasNotCome) {
  ThreadRanks group({.size = 2, .deadline = 20ms});
  const auto ranks = group.join(0);
  EXPECT_THAT([&] { ranks->barrier(); },
              testing::ThrowsMessage<DeadlineExceeded>(HasSubstr("rank 1 has not come")));
}

TEST(ThreadRanks, ACollectiveThatIsDroppedFailsTheOthersAndItsMemoryIsFree) {
  const auto thrown = run_ranks({.size = 3, .delay_max = 500us, .delay_seed = 3}, [](Ranks& ranks) {
    for (int round = 0; round < 50; ++round) {
      std::vector<std::byte> buffer = with_own_shard(ranks, round);
      Collective gathering = ranks.begin_all_gather(buffer);
      if (ranks.rank() != 2) gathering.wait();
    }
  });
  for (const std::exception_ptr& each : thrown) {
    EXPECT_EQ(failed_rank(each), 2);
    EXPECT_THAT(text_of(each), HasSubstr("rank 2 dropped collective"));
  }
}

TEST(ThreadRanks, AfterAFailureNothingBeginsAnyMore) {
  (void)run_ranks({.size = 2, .death = ThreadRanks::Death{.rank = 1, .collective = 1}},
                  [](Ranks& ranks) {
                    for (int again = 0; again < 3; ++again)
                      EXPECT_THROW(ranks.barrier(), RankFailure);
                  });
}

TEST(ThreadRanks, WhatIsToBeReceivedIsPoisonedUntilItComes) {
  ThreadRanks group({.size = 2, .deadline = 20ms});
  const auto ranks = group.join(0);
  std::vector<std::byte> buffer(4, std::byte{1});
  Collective gathering = ranks->begin_all_gather(buffer);
  EXPECT_EQ(buffer, (std::vector{std::byte{1}, std::byte{1}, std::byte{0xFF}, std::byte{0xFF}}));
}

TEST(ThreadRanks, RefusesGroupsWithoutRanksAndRanksThatThereAreNot) {
  EXPECT_THROW(ThreadRanks({.size = 0}), UsageError);
  ThreadRanks group({.size = 2});
  const auto ranks = group.join(1);
  EXPECT_THROW((void)group.join(1), UsageError);
  EXPECT_THROW((void)group.join(2), UsageError);
  EXPECT_THROW((void)group.join(-1), UsageError);
}

TEST(ThreadRanks, TheEndOfARankMayOutliveTheGroup) {
  std::unique_ptr<Ranks> ranks;
  {
    ThreadRanks group({.size = 1});
    ranks = group.join(0);
  }
  ranks->barrier();
}

}  // namespace
}  // namespace strata::zero3
