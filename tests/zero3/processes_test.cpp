#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "zero3/process_world.h"
#include "zero3/ranks/agreement.h"
#include "zero3/ranks_contract.h"

/// \file
/// Ranks that are processes over c10d: the contract, and what a rank's death, in every way and in
/// every phase of a step, does to the others.

namespace strata::zero3 {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::HasSubstr;
using Kind = RankOutcome::Kind;

ContractWorld processes(int size) {
  return {"processes_" + std::to_string(size), [=](const std::function<void(Ranks&)>& body) {
            const auto outcomes = run_processes(size, body);
            for (const RankOutcome& each : outcomes) {
              EXPECT_EQ(each.kind, Kind::kReturned) << each.text;
              EXPECT_FALSE(each.test_failed);
            }
          }};
}

}  // namespace

std::vector<ContractWorld> contract_worlds() {
  return {processes(1), processes(2), processes(3), processes(4)};
}

namespace {

// ---- deaths ------------------------------------------------------------------------------------

constexpr std::size_t kLarge = 24 << 20;  // more than a socket's buffers hold

/// A step's exchanges, with a place to die in each. `dies` is called when a rank comes there.
void train(Ranks& ranks, const std::function<void(const std::string& where)>& dies) {
  std::vector<std::byte> weights(kLarge / static_cast<std::size_t>(ranks.size()) *
                                 static_cast<std::size_t>(ranks.size()));
  std::vector<std::byte> received(weights.size());
  for (int step = 0; step < 4; ++step) {
    Collective gathering = ranks.begin_all_gather(weights);
    if (step == 2) dies("gather");
    gathering.wait();
    Collective exchanging = ranks.begin_all_to_all(weights, received);
    if (step == 2) dies("reduce");
    exchanging.wait();
    (void)ranks.gather_values(step);
    if (step == 2) dies("between steps");
  }
}

struct Death {
  std::string name;
  std::string where;
  std::function<void()> how;
  std::string said;  ///< of it by the others
  int size = 3;
  int rank = 1;
};

// NOLINTNEXTLINE(readability-identifier-naming): the name that GoogleTest looks for
void PrintTo(const Death& death, std::ostream* out) { *out << death.name; }

void is_killed() { ::raise(SIGKILL); }
void is_stopped() { ::raise(SIGSTOP); }
void ends() { ::_exit(3); }
void throws() { throw IoError("the disk is full", ENOSPC); }

class Deaths : public testing::TestWithParam<Death> {};

TEST_P(Deaths, EndTheOthersSoonWithTheRankAndThePlace) {
  const Death& death = GetParam();
  const auto outcomes = run_processes(death.size,
                                      [&](Ranks& ranks) {
                                        train(ranks, [&](const std::string& where) {
                                          if (where == death.where && ranks.rank() == death.rank)
                                            death.how();
                                        });
                                      },
                                      {.silence = 1'000ms});
  for (int rank = 0; rank < death.size; ++rank) {
    if (rank == death.rank) continue;
    const RankOutcome& outcome = outcomes[static_cast<std::size_t>(rank)];
    EXPECT_EQ(outcome.kind, Kind::kRankFailure) << outcome.text;
    EXPECT_EQ(outcome.failed_rank, death.rank) << outcome.text;
    EXPECT_THAT(outcome.text, AllOf(HasSubstr("rank " + std::to_string(death.rank) + " "),
                                    HasSubstr(death.said), HasSubstr("collective")));
    EXPECT_LT(outcome.ended_after, 8s);
  }
}

std::vector<Death> deaths() {
  std::vector<Death> all;
  for (const std::string where : {"gather", "reduce", "between steps"}) {
    const std::string place = where == "between steps" ? "between" : where;
    all.push_back({"killed_in_" + place, where, is_killed, "died"});
    all.push_back({"stopped_in_" + place, where, is_stopped, "was not heard of"});
    all.push_back(
        {"throws_in_" + place, where, throws, where == "between steps" ? "left" : "dropped"});
  }
  all.push_back({"ends_in_reduce", "reduce", ends, "died"});
  all.push_back({"rank_0_is_killed", "gather", is_killed, "died", 3, 0});
  all.push_back({"rank_0_is_stopped", "between steps", is_stopped, "was not heard of", 2, 0});
  all.push_back({"one_of_two_is_killed", "reduce", is_killed, "died", 2, 1});
  return all;
}

INSTANTIATE_TEST_SUITE_P(Everywhere, Deaths, testing::ValuesIn(deaths()),
                         [](const auto& tested) { return tested.param.name; });

TEST(Processes, ARankThatIsThereButDoesNotComeIsNamedAtTheDeadline) {
  const auto outcomes = run_processes(3,
                                      [](Ranks& ranks) {
                                        if (ranks.rank() == 2) std::this_thread::sleep_for(1'500ms);
                                        ranks.barrier();
                                      },
                                      {.wait = 300ms});
  for (const RankOutcome& each : outcomes) {
    EXPECT_EQ(each.kind, Kind::kDeadline) << each.text;
    EXPECT_THAT(each.text, HasSubstr("rank 2 has not come"));
  }
}

TEST(Processes, DifferentCallsAreNamedOnAll) {
  const auto outcomes = run_processes(2, [](Ranks& ranks) {
    std::vector<std::byte> buffer(ranks.rank() == 0 ? 2000 : 1000);
    ranks.begin_all_gather(buffer).wait();
  });
  for (const RankOutcome& each : outcomes) {
    EXPECT_EQ(each.kind, Kind::kUsage);
    EXPECT_THAT(each.text, AllOf(HasSubstr("2 x 1000"), HasSubstr("2 x 500")));
  }
}

TEST(Processes, LeaveOneByOneWithoutDisturbingTheOthers) {
  const auto outcomes = run_processes(4, [](Ranks& ranks) {
    exchange_for_three_steps(ranks);
    std::this_thread::sleep_for(150ms * ranks.rank());
  });
  for (const RankOutcome& each : outcomes) {
    EXPECT_EQ(each.kind, Kind::kReturned) << each.text;
    EXPECT_LT(each.ended_after, 5s);
  }
}

// ---- joining -----------------------------------------------------------------------------------

/// What becomes of processes that join as these ranks of worlds of these sizes.
std::vector<RankOutcome> join_as(const std::vector<RankOfSize>& ranks) {
  return run_processes_as(ranks, [](Ranks& each) { each.barrier(); }, {.start = 1'000ms});
}

TEST(Joining, NamesTheRanksThatDoNotCome) {
  const auto outcomes = join_as({{0, 4}, {2, 4}});
  for (const RankOutcome& each : outcomes) {
    EXPECT_EQ(each.kind, Kind::kDeadline) << each.text;
    EXPECT_THAT(each.text, HasSubstr("of 4, these have not come: 1, 3"));
  }
}

TEST(Joining, RefusesTwoOfTheSameRank) {
  const auto outcomes = join_as({{0, 2}, {0, 2}});
  int refused = 0;
  for (const RankOutcome& each : outcomes) {
    if (each.kind != Kind::kConfig) continue;
    ++refused;
    EXPECT_THAT(each.text, HasSubstr("rank 0 has joined"));
  }
  EXPECT_EQ(refused, 1);
}

TEST(Joining, RefusesWorldsOfOtherSizes) {
  const auto outcomes = join_as({{0, 2}, {1, 3}});
  for (const RankOutcome& each : outcomes) {
    EXPECT_EQ(each.kind, Kind::kConfig) << each.text;
    EXPECT_THAT(each.text, HasSubstr("do not agree on the size"));
  }
}

}  // namespace
}  // namespace strata::zero3
