#include "zero3/ranks/ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <latch>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "strata/base/error.h"
#include "zero3/local_messenger.h"
#include "zero3/ranks/one_rank.h"
#include "zero3/ranks/threads.h"
#include "zero3/ranks_contract.h"
#include "zero3/thread_world.h"

/// \file
/// What goes wrong between ranks that are threads. The worlds of this program for the contract: one
/// rank, threads, and ranks over messages within this process.

namespace strata::zero3 {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::HasSubstr;

}  // namespace

// ---- the contract ------------------------------------------------------------------------------

namespace {

/// Throws what the first rank threw that threw something.
void rethrow(const std::vector<std::exception_ptr>& thrown) {
  for (const std::exception_ptr& each : thrown)
    if (each) std::rethrow_exception(each);
}

ContractWorld threads(int size, std::uint64_t seed) {
  return {"threads_" + std::to_string(size) + "_seed_" + std::to_string(seed),
          [=](const std::function<void(Ranks&)>& body) {
            rethrow(run_ranks(
                {.size = size, .delay_max = seed == 0 ? 0us : 300us, .delay_seed = seed}, body));
          }};
}

ContractWorld messages(int size) {
  return {
      "messages_" + std::to_string(size), [=](const std::function<void(Ranks&)>& body) {
        rethrow(run_message_ranks({.size = size}, [&](Ranks& ranks, LocalWorld&) { body(ranks); }));
      }};
}

}  // namespace

std::vector<ContractWorld> contract_worlds() {
  std::vector<ContractWorld> worlds = {{"one_rank", [](const std::function<void(Ranks&)>& body) {
                                          OneRank ranks;
                                          body(ranks);
                                        }}};
  for (const auto& [size, seed] : std::vector<std::pair<int, std::uint64_t>>{
           {1, 0}, {2, 0}, {2, 1}, {2, 2}, {3, 0}, {3, 3}, {4, 0}, {4, 4}, {4, 5}, {8, 0}, {8, 6}})
    worlds.push_back(threads(size, seed));
  for (const int size : {1, 2, 3, 4, 8}) worlds.push_back(messages(size));
  return worlds;
}

namespace {

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

TEST(ThreadRanks, ARankThatDiesAnywhereIsNamedOnAllOthersAndNoneHangs) {
  for (const int size : {2, 3, 4})
    for (int dying = 0; dying < size; ++dying)
      for (std::uint64_t nth = 1; nth <= 12; ++nth) {
        const auto thrown = run_ranks({.size = size,
                                       .delay_max = nth % 2 == 0 ? 0us : 200us,
                                       .delay_seed = nth,
                                       .death = ThreadRanks::Death{dying, nth}},
                                      exchange_for_three_steps);
        for (const std::exception_ptr& each : thrown) {
          ASSERT_EQ(failed_rank(each), dying) << size << " ranks, collective " << nth;
          ASSERT_THAT(text_of(each), HasSubstr("rank " + std::to_string(dying) + " died"));
        }
      }
}

TEST(ThreadRanks, ADeathAfterTheLastCollectiveChangesNothing) {
  const auto thrown =
      run_ranks({.size = 2, .death = ThreadRanks::Death{.rank = 1, .collective = 13}},
                exchange_for_three_steps);
  for (const std::exception_ptr& each : thrown) EXPECT_EQ(text_of(each), "nothing");
}

TEST(ThreadRanks, AnErrorOfOneRankReachesAllOthers) {
  const auto thrown = run_ranks({.size = 3}, [](Ranks& ranks) {
    exchange_for_three_steps(ranks);
    if (ranks.rank() == 1) throw std::runtime_error("the disk is full");
    exchange_for_three_steps(ranks);
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
  std::latch come(2), over(2);
  const auto thrown = run_ranks({.size = 4, .deadline = 50ms}, [&](Ranks& ranks) {
    wait_for_odd_ranks_that_stay_away(ranks, come, over);
  });
  for (const std::exception_ptr& each : thrown) {
    EXPECT_TRUE(is_a<DeadlineExceeded>(each));
    EXPECT_THAT(text_of(each),
                AllOf(HasSubstr("50 ms"), HasSubstr("collective 1 (all_gather of 4 x 100 bytes)"),
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
