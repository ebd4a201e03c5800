#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <ostream>
#include <thread>
#include <vector>

#include "strata/base/error.h"
#include "support/shared_value.h"
#include "zero3/ranks_contract.h"

/// \file
/// Promises that every implementation of Ranks keeps.

namespace strata::zero3 {

// NOLINTNEXTLINE(readability-identifier-naming): the name that GoogleTest looks for
void PrintTo(const ContractWorld& world, std::ostream* out) { *out << world.name; }

namespace {

class RanksContract : public ::testing::TestWithParam<ContractWorld> {
 protected:
  static void run(const std::function<void(Ranks&)>& body) { GetParam().run(body); }
};

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

TEST_P(RanksContract, SumAddsEachValueInRankOrderToTheSameBitsOnAllRanks) {
  run([](Ranks& ranks) {
    const auto value_of = [](int rank, int round) { return round == 0 ? 1e17 : 0.1 + 3.0 * rank; };
    std::vector<double> sums = {value_of(ranks.rank(), ranks.rank()), value_of(ranks.rank(), 1)};
    ranks.sum(sums);
    double first = 0, second = 0;
    for (int rank = 0; rank < ranks.size(); ++rank) {
      first += value_of(rank, rank);
      second += value_of(rank, 1);
    }
    ASSERT_EQ(sums, (std::vector<double>{first, second}));
    ranks.sum({});
  });
}

TEST_P(RanksContract, NoRankPassesABarrierBeforeAllHaveCome) {
  const support::SharedValue<std::atomic<int>> come;
  run([&](Ranks& ranks) {
    for (int round = 1; round <= 20; ++round) {
      ++*come;
      ranks.barrier();
      ASSERT_GE(*come, round * ranks.size());
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
  const support::SharedValue<std::atomic<bool>> first_has_looked;
  run([&](Ranks& ranks) {
    std::vector<std::byte> buffer = with_own_shard(ranks, 1);
    while (ranks.size() > 1 && ranks.rank() == ranks.size() - 1 && !*first_has_looked) {
      std::this_thread::yield();
    }
    Collective gathering = ranks.begin_all_gather(buffer);
    if (ranks.rank() == 0) {
      EXPECT_FALSE(ranks.size() > 1 && gathering.done());
      *first_has_looked = true;
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

INSTANTIATE_TEST_SUITE_P(Ranks, RanksContract, ::testing::ValuesIn(contract_worlds()),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace strata::zero3
