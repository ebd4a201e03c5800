#include "zero3/ranks/message_ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <latch>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "strata/base/error.h"
#include "zero3/local_messenger.h"
#include "zero3/ranks/agreement.h"
#include "zero3/ranks/host_share.h"
#include "zero3/ranks/one_rank.h"
#include "zero3/ranks_contract.h"

/// \file
/// What ranks over messages do when one of them does not go on; and what they compare.

namespace strata::zero3::message_ranks_test {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::HasSubstr;

using Clock = std::chrono::steady_clock;

template <class Type>
std::string text_of(const std::exception_ptr& thrown) {
  if (!thrown) return "nothing";
  try {
    std::rethrow_exception(thrown);
  } catch (const Type& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("another type: ") + error.what();
  }
}

/// The end of a rank that a test cuts off: no word to the others.
struct Cut {};

TEST(MessageRanks, ARankThatDiesAnywhereIsNamedOnAllOthersWithThePlace) {
  for (const int size : {2, 4})
    for (const int dying : {0, size - 1})
      for (const int step : {0, 1, 3}) {
        const auto thrown = run_message_ranks({.size = size}, [&](Ranks& ranks, LocalWorld& world) {
          for (int i = 0; i < step; ++i) (void)ranks.gather_values(i);
          if (ranks.rank() == dying) {
            world.cut(dying);
            throw Cut();
          }
          exchange_for_three_steps(ranks);
        });
        for (int rank = 0; rank < size; ++rank) {
          const std::exception_ptr& each = thrown[static_cast<std::size_t>(rank)];
          if (rank == dying) continue;
          EXPECT_EQ(failed_rank(each), dying) << text_of<RankFailure>(each);
          EXPECT_THAT(text_of<RankFailure>(each),
                      AllOf(HasSubstr("rank " + std::to_string(dying) + " died"),
                            HasSubstr("collective " + std::to_string(step + 1) +
                                      " (all_gather of " + std::to_string(size))));
        }
      }
}

TEST(MessageRanks, ARankThatDiesWithItsBytesUnderWayIsNamed) {
  const auto thrown = run_message_ranks({.size = 3}, [](Ranks& ranks, LocalWorld& world) {
    std::vector<std::byte> buffer = with_own_shard(ranks, 1);
    Collective gathering = ranks.begin_all_gather(buffer);
    if (ranks.rank() == 1) {
      world.cut(1);
      throw Cut();
    }
    gathering.wait();
    for (int i = 0; i < 100; ++i) ranks.barrier();
  });
  for (const std::size_t rank : {0, 2}) EXPECT_EQ(failed_rank(thrown[rank]), 1);
}

TEST(MessageRanks, ARankThatDiesWithinALetterIsNamedByThoseThatHeardIt) {
  const auto thrown = run_message_ranks({.size = 3}, [](Ranks& ranks, LocalWorld& world) {
    ranks.barrier();
    if (ranks.rank() == 0) {
      world.cut_within_letters(0);
      throw Cut();
    }
    std::this_thread::sleep_for(800ms);  // longer than last words are waited for
    ranks.barrier();
  });
  for (const std::size_t rank : {1, 2}) {
    EXPECT_EQ(failed_rank(thrown[rank]), 0);
    EXPECT_THAT(text_of<RankFailure>(thrown[rank]), HasSubstr("rank 0 died"));
  }
}

TEST(MessageRanks, ARankThatThrowsLeavesAndIsNamed) {
  const auto thrown = run_message_ranks({.size = 3}, [](Ranks& ranks, LocalWorld&) {
    exchange_for_three_steps(ranks);
    if (ranks.rank() == 1) throw std::runtime_error("the disk is full");
    exchange_for_three_steps(ranks);
  });
  EXPECT_EQ(text_of<std::runtime_error>(thrown[1]), "the disk is full");
  for (const std::size_t rank : {0, 2}) {
    EXPECT_EQ(failed_rank(thrown[rank]), 1);
    EXPECT_THAT(text_of<RankFailure>(thrown[rank]), HasSubstr("rank 1 left"));
  }
}

TEST(MessageRanks, ARankThatIsStoppedIsLostWithinTheSilenceWhereverTheOthersAre) {
  for (const bool others_wait : {true, false}) {
    std::atomic<bool> over = false;
    const auto begin = Clock::now();
    const auto thrown =
        run_message_ranks({.size = 3, .silence = 1600ms}, [&](Ranks& ranks, LocalWorld& world) {
          ranks.barrier();
          if (ranks.rank() == 2) {
            world.freeze(2);
            while (!over) std::this_thread::sleep_for(1ms);
            return;
          }
          if (!others_wait) std::this_thread::sleep_for(2000ms);
          try {
            ranks.barrier();
          } catch (...) {
            over = true;
            throw;
          }
        });
    EXPECT_LT(Clock::now() - begin, 8s);
    for (const std::size_t rank : {0, 1}) {
      EXPECT_EQ(failed_rank(thrown[rank]), 2) << text_of<RankFailure>(thrown[rank]);
      EXPECT_THAT(text_of<RankFailure>(thrown[rank]), HasSubstr("was not heard of for 1.2 s"));
    }
  }
}

TEST(MessageRanks, ARankThatComputesForLongerThanTheSilenceIsNotLost) {
  const auto thrown =
      run_message_ranks({.size = 2, .silence = 1500ms}, [](Ranks& ranks, LocalWorld&) {
        if (ranks.rank() == 1) std::this_thread::sleep_for(2000ms);
        ranks.barrier();
      });
  for (const std::exception_ptr& each : thrown) EXPECT_EQ(text_of<Error>(each), "nothing");
}

TEST(MessageRanks, ADeadlineNamesTheRanksThatHaveNotCome) {
  std::latch come(2), over(2);
  const auto thrown = run_message_ranks(
      {.size = 4, .deadline = 500ms},
      [&](Ranks& ranks, LocalWorld&) { wait_for_odd_ranks_that_stay_away(ranks, come, over); });
  for (const std::exception_ptr& each : thrown)
    EXPECT_THAT(text_of<DeadlineExceeded>(each),
                AllOf(HasSubstr("500 ms"), HasSubstr("collective 1 (all_gather of 4 x 100 bytes)"),
                      HasSubstr("ranks 1, 3 have not come")));
}

TEST(MessageRanks, DifferentCallsAreAnErrorThatNamesBothRanksAndBothCalls) {
  for (const int odd_one : {0, 1, 2}) {
    const auto thrown = run_message_ranks({.size = 3}, [&](Ranks& ranks, LocalWorld&) {
      ranks.barrier();
      std::vector<std::byte> buffer = pieces(ranks);
      if (ranks.rank() == odd_one)
        return ranks.begin_all_gather(std::span(buffer).first(60)).wait();
      ranks.begin_all_gather(buffer).wait();
    });
    for (const std::exception_ptr& each : thrown) {
      EXPECT_THAT(text_of<UsageError>(each),
                  AllOf(HasSubstr("collective 2"), HasSubstr("all_gather of 3 x 20"),
                        HasSubstr("all_gather of 3 x 100"),
                        HasSubstr("rank " + std::to_string(odd_one) + " calls")));
    }
  }
}

TEST(MessageRanks, ACollectiveThatIsDroppedFailsTheOthersAndItsMemoryIsFree) {
  const auto thrown = run_message_ranks({.size = 3}, [](Ranks& ranks, LocalWorld&) {
    for (int round = 0; round < 1000; ++round) {
      std::vector<std::byte> buffer = with_own_shard(ranks, round);
      Collective gathering = ranks.begin_all_gather(buffer);
      if (ranks.rank() != 2) gathering.wait();
    }
  });
  for (const std::exception_ptr& each : thrown) {
    EXPECT_EQ(failed_rank(each), 2);
    EXPECT_THAT(text_of<RankFailure>(each), HasSubstr("rank 2 dropped collective"));
  }
}

TEST(MessageRanks, ARankThatIsThroughDoesNotDisturbTheOthers) {
  const auto thrown = run_message_ranks({.size = 4}, [](Ranks& ranks, LocalWorld&) {
    ranks.barrier();
    std::this_thread::sleep_for(20ms * ranks.rank());
  });
  for (const std::exception_ptr& each : thrown) EXPECT_EQ(text_of<Error>(each), "nothing");
}

// ---- what ranks compare ------------------------------------------------------------------------

TEST(RanksAgree, WhereAllHaveTheSameFacts) {
  const auto thrown = run_message_ranks({.size = 3}, [](Ranks& ranks, LocalWorld&) {
    require_agreement(ranks, "the config", {{"lr", "0.1"}, {"bf16", "true"}});
    require_agreement(ranks, "nothing at all", {});
  });
  for (const std::exception_ptr& each : thrown) EXPECT_EQ(text_of<Error>(each), "nothing");
}

TEST(RanksAgree, OrTheFirstDifferenceIsNamedOnAll) {
  const auto thrown = run_message_ranks({.size = 3}, [](Ranks& ranks, LocalWorld&) {
    Facts facts = {{"lr", "0.1"}, {"bf16", ranks.rank() == 2 ? "false, for once" : "true"}};
    if (ranks.rank() == 2) facts.emplace_back("more", "1");
    require_agreement(ranks, "the config", facts);
  });
  for (const std::exception_ptr& each : thrown)
    EXPECT_THAT(text_of<ConfigError>(each),
                HasSubstr("the config differs between ranks: bf16 is false, for once on rank 2 and "
                          "true on rank 0"));
}

TEST(RanksAgree, OnAFactThatOneDoesNotHave) {
  const auto thrown = run_message_ranks({.size = 2}, [](Ranks& ranks, LocalWorld&) {
    Facts facts = {{"units", "3"}};
    if (ranks.rank() == 0) facts.emplace_back("unit 3", "head");
    require_agreement(ranks, "the model", facts);
  });
  for (const std::exception_ptr& each : thrown)
    EXPECT_THAT(text_of<ConfigError>(each), HasSubstr("unit 3 is nothing on rank 1 and head on"));
}

TEST(HostShares, DivideTheCoresThatRanksShareAndLeaveOneAtLeast) {
  const int cores = host_share(*std::make_unique<OneRank>()).threads;
  for (const int size : {1, 2, 3}) {
    const auto thrown = run_message_ranks({.size = size}, [&](Ranks& ranks, LocalWorld&) {
      const HostShare share = host_share(ranks);
      EXPECT_EQ(share.ranks, static_cast<std::uint64_t>(size));
      EXPECT_EQ(share.threads, std::max(1, cores / size));
    });
    for (const std::exception_ptr& each : thrown) EXPECT_EQ(text_of<Error>(each), "nothing");
  }
}

using Dealt = std::vector<std::vector<std::size_t>>;

Dealt deal(const std::vector<int>& directory_nodes, const std::vector<int>& rank_nodes) {
  return deal_directories(directory_nodes, rank_nodes);
}

TEST(Directories, AreDealtOutInTheirOrderWhereNoNodeIsKnown) {
  constexpr int kUnknown = -1;
  EXPECT_EQ(deal({kUnknown, kUnknown}, {kUnknown, kUnknown}), (Dealt{{0}, {1}}));
  EXPECT_EQ(deal(std::vector(5, kUnknown), {kUnknown, kUnknown}), (Dealt{{0, 2, 4}, {1, 3}}));
  EXPECT_EQ(deal({kUnknown, kUnknown}, std::vector(5, kUnknown)), (Dealt{{0}, {1}, {0}, {1}, {0}}));
  EXPECT_EQ(deal({}, {0, 1}), (Dealt{{}, {}})) << "a run without nvme";
}

TEST(Directories, GoToRanksOfTheirNodeAsFarAsAllHaveAsMany) {
  EXPECT_EQ(deal({1, 1, 0, 0}, {0, 0, 1, 1}), (Dealt{{2}, {3}, {0}, {1}}));
  EXPECT_EQ(deal({1, 1, 1, 0}, {0, 1}), (Dealt{{1, 3}, {0, 2}})) << "two each before what is near";
  EXPECT_EQ(deal({1, 0}, {0, 1, 0, 1}), (Dealt{{1}, {0}, {1}, {0}}));
}

TEST(Directories, OfOneHostAreEachTheOwnOfOneRank) {
  const std::vector<std::string> all{"/nowhere/0", "/nowhere/1", "/nowhere/2"};
  std::vector<std::vector<std::string>> own(2);
  const auto thrown = run_message_ranks({.size = 2}, [&](Ranks& ranks, LocalWorld&) {
    own[static_cast<std::size_t>(ranks.rank())] = own_directories(ranks, all);
  });
  for (const std::exception_ptr& each : thrown) EXPECT_EQ(text_of<Error>(each), "nothing");
  EXPECT_THAT(own[0], testing::ElementsAre("/nowhere/0", "/nowhere/2"));
  EXPECT_THAT(own[1], testing::ElementsAre("/nowhere/1"));
}

}  // namespace
}  // namespace strata::zero3::message_ranks_test
