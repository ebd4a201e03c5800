#include <gtest/gtest.h>

#include <exception>
#include <functional>
#include <string>
#include <tuple>
#include <vector>

#include "promise/in_memory_loop.h"
#include "promise/training_run.h"
#include "promise/world_run.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "zero3/thread_world.h"

/// \file
/// The promises for several ranks, threads of this process: a world of N has the bits of an
/// in-memory loop that adds the N contributions to every gradient in rank order in fp32 and rounds
/// once, on every schedule, wherever states rest and however late ranks are; every rank holds the
/// bytes of its plan; a rank that dies ends the run on all.
///
/// A weight that is used twice (the token embedding and a tied head) has two such sums: first that
/// of the head's contributions, which backward comes to first, then that of the embedding's, each
/// added to the gradient's home and rounded there. In memory autograd would add the two of one rank
/// first; with several ranks that order would need a copy of the gradient for as long as backward
/// takes.
///
/// Dropout is in world_dropout_test.cpp: ranks need generators of their own, which threads that
/// compute on the CPU do not have.

namespace strata::promise::world_test {
namespace {

using formats::OffloadDevice;
using Sums = InMemoryLoop::Sums;

constexpr std::int64_t kMicroBatches = 2;

models::Gpt2Config tied_model() { return without_dropout(small_model(/*tied=*/true)); }
models::Gpt2Config untied_model() { return without_dropout(small_model(/*tied=*/false)); }

Parameters train_in_memory(int world_size, const Job& job, Sums sums) {
  InMemoryLoop in_memory(job.config, job.model, world_size, InMemoryLoop::Ties::kUseByUse);
  for (int step = 0; step < job.steps; ++step) in_memory.step(sums);
  return in_memory.parameters();
}

/// Fails the running test unless every rank has the bits of the in-memory loop.
void expect_bits_of_in_memory_loop(const World& world, const Job& job,
                                   Sums sums = Sums::kOfMicroBatchesFirst) {
  const Parameters expected = train_in_memory(world.size, job, sums);
  for (const Parameters& actual : train(world, job)) expect_equal_bits(actual, expected);
}

// ---- placements --------------------------------------------------------------------------------

class Worlds
    : public testing::TestWithParam<std::tuple<int, Precision, OffloadDevice, OffloadDevice>> {
 protected:
  [[nodiscard]] static int size() { return std::get<int>(GetParam()); }
  [[nodiscard]] formats::DsConfig config(std::int64_t micro_batches) const {
    formats::DsConfig config =
        nvme_config(scratch_.path(), std::get<Precision>(GetParam()), micro_batches);
    config.zero.offload_param.device = std::get<2>(GetParam());
    config.zero.offload_optimizer.device = std::get<3>(GetParam());
    return config;
  }

 private:
  const OneThreadEach one_thread_;
  const ScratchDirectory scratch_;
};

TEST_P(Worlds, HaveTheBitsOfALoopThatAddsInRankOrder) {
  for (const std::int64_t micro_batches : {1, 2}) {
    SCOPED_TRACE(std::to_string(micro_batches) + " micro-batches");
    expect_bits_of_in_memory_loop({.size = size(), .seed = 1},
                                  {config(micro_batches), untied_model()});
  }
}

TEST_P(Worlds, AddTheirOwnMicroBatchesFirstInABatch) {
  expect_bits_of_in_memory_loop(
      {.size = size(), .seed = 3},
      {config(/*micro_batches=*/3), untied_model(), &EngineRun::step_by_batch},
      Sums::kOfRanksFirst);
}

TEST_P(Worlds, UpdateUnitsUnderBackwardToTheSameBits) {
  if (std::get<3>(GetParam()) != OffloadDevice::kNvme) return;  // no windows: it comes afterwards
  formats::DsConfig under_backward = config(kMicroBatches);
  under_backward.gradient_clipping = 0.0;
  under_backward.strata.step_under_backward = true;
  expect_bits_of_in_memory_loop({.size = size(), .seed = 4},
                                {under_backward, untied_model(), &EngineRun::step_by_batch},
                                Sums::kOfRanksFirst);
}

INSTANTIATE_TEST_SUITE_P(Sizes, Worlds,
                         testing::Combine(testing::Values(1, 2, 3, 4),
                                          testing::Values(Precision::kBf16, Precision::kFp32),
                                          testing::Values(OffloadDevice::kNone, OffloadDevice::kCpu,
                                                          OffloadDevice::kNvme),
                                          testing::Values(OffloadDevice::kCpu,
                                                          OffloadDevice::kNvme)));

// ---- schedules ---------------------------------------------------------------------------------

/// A way to run the job of which no number depends, but for the order of sums.
struct Schedule {
  std::string name;
  std::function<void(formats::DsConfig&)> choose;
  bool by_batch = false;
};

// NOLINTNEXTLINE(readability-identifier-naming): the name that GoogleTest looks for
void PrintTo(const Schedule& schedule, std::ostream* out) { *out << schedule.name; }

std::vector<Schedule> schedules() {
  using Config = formats::DsConfig;
  const auto as_it_is = [](Config&) {};
  const auto alone = [](Config& config) { config.strata.overlap_step = false; };
  const auto on_host = [](Config& config) { config.strata.activations_host_bytes = 1_MiB; };
  const auto on_nvme = [](Config& config) {
    config.strata.activations_host_bytes = 16_KiB;
    config.strata.activations_nvme_bytes = 1_MiB;
  };
  const auto kept = [](Config& config) { config.strata.recompute = false; };
  const auto under_backward = [](Config& config) {
    config.gradient_clipping = 0.0;
    config.strata.step_under_backward = true;
  };
  return {{"loop", as_it_is},
          {"loop_step_alone", alone},
          {"loop_activations_kept", kept},
          {"loop_activations_on_host", on_host},
          {"loop_activations_on_nvme", on_nvme},
          {"batch", as_it_is, true},
          {"batch_step_alone", alone, true},
          {"batch_activations_kept", kept, true},
          {"batch_activations_on_nvme", on_nvme, true},
          {"under_backward", under_backward, true},
          {"under_backward_activations_on_nvme",
           [=](Config& config) {
             under_backward(config);
             on_nvme(config);
           },
           true}};
}

class Schedules : public testing::TestWithParam<std::tuple<Schedule, int>> {};

TEST_P(Schedules, HaveTheBitsOfALoopThatAddsInRankOrder) {
  const OneThreadEach one_thread;
  const auto& [schedule, size] = GetParam();
  const ScratchDirectory scratch;
  Job job{nvme_config(scratch.path(), Precision::kBf16, kMicroBatches), tied_model()};
  schedule.choose(job.config);
  if (schedule.by_batch) job.step = &EngineRun::step_by_batch;
  job.look = [](EngineRun& run) {
    const formats::DsConfig& config = run.engine().config();
    EXPECT_EQ(run.engine().plan().overlaps_step, config.strata.overlap_step);
    EXPECT_EQ(run.engine().activations().put > 0,
              config.strata.activations_host_bytes.value_or(0) > 0);
    EXPECT_EQ(run.engine().activations().written > 0,
              config.strata.activations_nvme_bytes.value_or(0) > 0);
  };
  expect_bits_of_in_memory_loop(
      {.size = size, .seed = 5}, job,
      schedule.by_batch ? Sums::kOfRanksFirst : Sums::kOfMicroBatchesFirst);
}

INSTANTIATE_TEST_SUITE_P(OnNvme, Schedules,
                         testing::Combine(testing::ValuesIn(schedules()),
                                          testing::Values(1, 2, 3, 4)),
                         [](const auto& tested) {
                           return std::get<Schedule>(tested.param).name + "_" +
                                  std::to_string(std::get<int>(tested.param));
                         });

// ---- ties, budgets and tiles --------------------------------------------------------------------

class WorldsOfOneSize : public testing::TestWithParam<int> {};

TEST_P(WorldsOfOneSize, AddTheTwoUsesOfATiedWeightOneAfterTheOther) {
  const OneThreadEach one_thread;
  for (const Precision precision : {Precision::kBf16, Precision::kFp32}) {
    SCOPED_TRACE(name_of(precision));
    const ScratchDirectory scratch;
    expect_bits_of_in_memory_loop({.size = GetParam(), .seed = 6},
                                  {nvme_config(scratch.path(), precision), tied_model()});
  }
}

TEST_P(WorldsOfOneSize, WorkInTheSmallestBudgetsThatThePlanNames) {
  const OneThreadEach one_thread;
  const ScratchDirectory scratch;
  Job job{nvme_config(scratch.path(), Precision::kBf16), tied_model()};
  zero3::PlanInput input = TestDevice::plan_input(job.config);
  input.world_size = GetParam();
  input.units = models::unit_layouts(job.model);
  const zero3::TierBytes smallest = zero3::smallest_budgets(input);
  job.config.strata.device_budget_bytes = smallest.device;
  job.config.strata.host_budget_bytes = smallest.host;
  job.config.strata.nvme_budget_bytes = smallest.nvme;
  expect_bits_of_in_memory_loop({.size = GetParam(), .seed = 10}, job);
}

INSTANTIATE_TEST_SUITE_P(Worlds, WorldsOfOneSize, testing::Values(1, 2, 3, 4));

/// What tiles share is rounded otherwise than in the whole, so that no loop in memory has their
/// bits. In fp32, where a sum of ranks has the bits of a sum of micro-batches, one rank has them
/// that takes the batches of all; not with three ranks: it divides each loss by three.
class WorldsInTiles : public testing::TestWithParam<int> {};

TEST_P(WorldsInTiles, HaveTheBitsOfOneRankThatTakesTheBatchesOfAll) {
  const OneThreadEach one_thread;
  const ScratchDirectory scratch;
  Job job{nvme_config(scratch.path(), Precision::kFp32), untied_model()};
  job.config.strata.tile_bytes = 4096;
  Job of_one = job;
  of_one.config.gradient_accumulation_steps = GetParam();
  job.look = [&](EngineRun& run) {
    const auto blocks = static_cast<std::size_t>(job.model.n_layer);
    EXPECT_GT(run.engine().plan_input().units.size(), blocks + 2) << "the vocabulary is whole";
  };
  const Parameters expected = train({.size = 1}, of_one).front();
  for (const Parameters& actual : train({.size = GetParam(), .seed = 7}, job)) {
    expect_equal_bits(actual, expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Worlds, WorldsInTiles, testing::Values(1, 2, 4));

// ---- what all ranks share ----------------------------------------------------------------------

TEST(Worlds, HaveTheSameBitsWhereRoundingIsRandomWhateverTheirPlacements) {
  const OneThreadEach one_thread;
  std::vector<Parameters> runs;
  for (const OffloadDevice home : {OffloadDevice::kCpu, OffloadDevice::kNvme}) {
    const ScratchDirectory scratch;
    formats::DsConfig config = nvme_config(scratch.path(), Precision::kBf16);
    config.strata.states.moments = MomentFormat::kInt8;
    config.zero.offload_param.device = home;
    config.zero.offload_optimizer.device = home;
    for (Parameters& of_rank : train({.size = 3, .seed = 2}, {config, tied_model()})) {
      runs.push_back(std::move(of_rank));
    }
  }
  for (const Parameters& run : runs) expect_equal_bits(run, runs.front());
}

TEST(Worlds, EndOnAllRanksWhenOneDies) {
  const OneThreadEach one_thread;
  const ScratchDirectory scratch;
  const formats::DsConfig config = nvme_config(scratch.path(), Precision::kBf16);
  for (const std::uint64_t collective : {1, 5, 20, 35}) {
    const zero3::ThreadRanks::Options options{
        .size = 3, .death = zero3::ThreadRanks::Death{.rank = 1, .collective = collective}};
    const auto thrown = zero3::run_ranks(options, [&](zero3::Ranks& ranks) {
      EngineRun run(config, untied_model(), &ranks);
      for (int step = 0; step < 3; ++step) run.step();
    });
    for (const std::exception_ptr& each : thrown) {
      ASSERT_TRUE(each) << "collective " << collective;
      EXPECT_THROW(std::rethrow_exception(each), RankFailure);
    }
  }
}

}  // namespace
}  // namespace strata::promise::world_test
