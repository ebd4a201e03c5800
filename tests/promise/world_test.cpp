#include <gtest/gtest.h>

#include <exception>
#include <string>
#include <tuple>
#include <vector>

#include "promise/in_memory_loop.h"
#include "promise/training_run.h"
#include "strata/base/error.h"
#include "zero3/thread_world.h"

/// \file
/// Promise 1 for several ranks, threads of this process: a world of N has the bits of an in-memory
/// loop that adds the N contributions to every gradient in rank order, wherever states rest and
/// however late ranks are; a rank that dies ends the run on all.

namespace strata::promise {
namespace {

using formats::OffloadDevice;

constexpr int kSteps = 3;

/// Each use of a tied weight is added by itself, and all threads of a process draw their numbers
/// for dropout from one generator.
models::Gpt2Config model_of_ranks() { return model_of_one_order(); }

/// Several threads compute: each of them alone.
class OneThreadEach {
 public:
  OneThreadEach() : before_(torch::get_num_threads()) { torch::set_num_threads(1); }
  ~OneThreadEach() { torch::set_num_threads(before_); }

 private:
  int before_;
};

struct World {
  int size = 1;
  std::uint64_t seed = 0;
};

using Step = double (EngineRun::*)();

/// The result that every rank has at the end.
std::vector<Parameters> train(const World& world, const formats::DsConfig& config,
                              Step make_step = &EngineRun::step) {
  const zero3::ThreadRanks::Options options{
      .size = world.size, .delay_max = std::chrono::microseconds(300), .delay_seed = world.seed};
  std::vector<Parameters> parameters(static_cast<std::size_t>(world.size));
  const auto thrown = zero3::run_ranks(options, [&](zero3::Ranks& ranks) {
    EngineRun run(config, model_of_ranks(), &ranks);
    for (int step = 0; step < kSteps; ++step) (run.*make_step)();
    parameters[static_cast<std::size_t>(ranks.rank())] = run.parameters();
  });
  for (const std::exception_ptr& each : thrown) {
    if (each) std::rethrow_exception(each);
  }
  return parameters;
}

/// Fails the running test unless batches train every rank to the bits of a loop in which each rank
/// adds its own micro-batches first.
void expect_batches_of_ranks_first(const World& world, const formats::DsConfig& config) {
  InMemoryLoop in_memory(config, model_of_ranks(), world.size);
  for (int step = 0; step < kSteps; ++step) in_memory.step(InMemoryLoop::Sums::kOfRanksFirst);
  const Parameters expected = parameters_of(in_memory.model());
  for (const Parameters& actual : train(world, config, &EngineRun::step_by_batch)) {
    expect_equal_bits(actual, expected);
  }
}

class Worlds
    : public testing::TestWithParam<std::tuple<int, Precision, OffloadDevice, OffloadDevice>> {};

TEST_P(Worlds, HaveTheBitsOfALoopThatAddsInRankOrder) {
  const OneThreadEach one_thread;
  const auto& [size, precision, parameters, optimizer] = GetParam();
  for (const std::int64_t accumulation : {1, 2}) {
    SCOPED_TRACE("accumulation " + std::to_string(accumulation));
    const ScratchDirectory scratch;
    formats::DsConfig config = nvme_config(scratch.path(), precision, accumulation);
    config.zero.offload_param.device = parameters;
    config.zero.offload_optimizer.device = optimizer;
    InMemoryLoop in_memory(config, model_of_ranks(), size);
    for (int step = 0; step < kSteps; ++step) in_memory.step();
    const Parameters expected = parameters_of(in_memory.model());
    for (const Parameters& actual : train({.size = size, .seed = 1}, config)) {
      expect_equal_bits(actual, expected);
    }
  }
}

TEST_P(Worlds, AddTheirOwnMicroBatchesFirstInABatch) {
  const OneThreadEach one_thread;
  const auto& [size, precision, parameters, optimizer] = GetParam();
  const ScratchDirectory scratch;
  formats::DsConfig config = nvme_config(scratch.path(), precision, /*accumulation=*/3);
  config.zero.offload_param.device = parameters;
  config.zero.offload_optimizer.device = optimizer;
  expect_batches_of_ranks_first({.size = size, .seed = 3}, config);
}

TEST_P(Worlds, UpdateUnitsUnderBackwardToTheSameBits) {
  const OneThreadEach one_thread;
  const auto& [size, precision, parameters, optimizer] = GetParam();
  if (optimizer != OffloadDevice::kNvme) return;  // no windows: the step comes after backward
  const ScratchDirectory scratch;
  formats::DsConfig config = nvme_config(scratch.path(), precision, /*accumulation=*/2);
  config.zero.offload_param.device = parameters;
  config.gradient_clipping = 0.0;
  config.strata.step_under_backward = true;
  expect_batches_of_ranks_first({.size = size, .seed = 4}, config);
}

INSTANTIATE_TEST_SUITE_P(Sizes, Worlds,
                         testing::Combine(testing::Values(1, 2, 3, 4),
                                          testing::Values(Precision::kBf16, Precision::kFp32),
                                          testing::Values(OffloadDevice::kNone, OffloadDevice::kCpu,
                                                          OffloadDevice::kNvme),
                                          testing::Values(OffloadDevice::kCpu,
                                                          OffloadDevice::kNvme)));

TEST(Worlds, HaveTheSameBitsWhereRoundingIsRandomWhateverTheirPlacements) {
  const OneThreadEach one_thread;
  std::vector<Parameters> runs;
  for (const OffloadDevice home : {OffloadDevice::kCpu, OffloadDevice::kNvme}) {
    const ScratchDirectory scratch;
    formats::DsConfig config = nvme_config(scratch.path(), Precision::kBf16);
    config.strata.states.moments = MomentFormat::kInt8;
    config.zero.offload_param.device = home;
    config.zero.offload_optimizer.device = home;
    for (Parameters& of_rank : train({.size = 3, .seed = 2}, config)) {
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
      EngineRun run(config, model_of_ranks(), &ranks);
      for (int step = 0; step < kSteps; ++step) run.step();
    });
    for (const std::exception_ptr& each : thrown) {
      ASSERT_TRUE(each) << "collective " << collective;
      EXPECT_THROW(std::rethrow_exception(each), RankFailure);
    }
  }
}

TEST(Worlds, HoldTheBudgetsOfTheirPlanOnEveryRank) {
  const OneThreadEach one_thread;
  const ScratchDirectory scratch;
  const formats::DsConfig config = nvme_config(scratch.path(), Precision::kBf16);
  const auto thrown = zero3::run_ranks({.size = 2}, [&](zero3::Ranks& ranks) {
    EngineRun run(config, model_of_ranks(), &ranks);
    for (int step = 0; step < kSteps; ++step) run.step();
    for (const tiering::Tier tier :
         {tiering::Tier::kDevice, tiering::Tier::kHost, tiering::Tier::kNvme}) {
      EXPECT_EQ(run.engine().use(tier).peak, run.engine().plan().total.of(tier)) << name_of(tier);
    }
  });
  for (const std::exception_ptr& each : thrown) EXPECT_FALSE(each);
}

}  // namespace
}  // namespace strata::promise
