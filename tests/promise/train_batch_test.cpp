#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

#include "promise/in_memory_loop.h"
#include "promise/training_run.h"

/// \file
/// Promises of Engine::train_batch, which runs all micro-batches through one unit before the next:
/// the numbers of the ordinary loop, weights read twice a step, the memory of the plan.

namespace strata::promise::train_batch_test {
namespace {

using formats::OffloadDevice;

constexpr int kSteps = 4;
constexpr std::int64_t kMicroBatches = 3;

formats::DsConfig config_in(const ScratchDirectory& scratch, Precision precision,
                            std::int64_t micro_batches = kMicroBatches) {
  return nvme_config(scratch.path(), precision, micro_batches);
}

class TrainBatch
    : public testing::TestWithParam<std::tuple<Precision, OffloadDevice, OffloadDevice>> {};

TEST_P(TrainBatch, HasTheBitsOfTheInMemoryLoop) {
  const auto& [precision, parameters, optimizer] = GetParam();
  const ScratchDirectory scratch;
  formats::DsConfig config = config_in(scratch, precision);
  config.zero.offload_param.device = parameters;
  config.zero.offload_optimizer.device = optimizer;
  EngineRun run(config, model_of_one_order());
  InMemoryLoop in_memory(config, model_of_one_order());
  for (int step = 0; step < kSteps; ++step) {
    EXPECT_EQ(run.step_by_batch(), in_memory.step()) << "loss of step " << step;
  }
  expect_equal_bits(run.parameters(), in_memory.parameters());
}

INSTANTIATE_TEST_SUITE_P(Placements, TrainBatch,
                         testing::Combine(testing::Values(Precision::kBf16, Precision::kFp32),
                                          testing::Values(OffloadDevice::kNone, OffloadDevice::kCpu,
                                                          OffloadDevice::kNvme),
                                          testing::Values(OffloadDevice::kNone, OffloadDevice::kCpu,
                                                          OffloadDevice::kNvme)));

/// What does not change numbers.
struct Rooms {
  bool recompute = true;
  bool least_host_memory = false, least_device_memory = false;
};

formats::DsConfig with_rooms(formats::DsConfig config, const Rooms& rooms) {
  config.strata.recompute = rooms.recompute;
  zero3::PlanInput input = TestDevice::plan_input(config);
  input.units = models::unit_layouts(small_model());
  const zero3::TierBytes smallest = zero3::smallest_budgets(input);
  if (rooms.least_host_memory) config.strata.host_budget_bytes = smallest.host;
  if (rooms.least_device_memory) config.strata.device_budget_bytes = smallest.device;
  return config;
}

TEST(TrainBatch, HasTheSameBitsInEveryRoom) {
  std::vector<Parameters> results;
  for (const Rooms& rooms :
       {Rooms{}, Rooms{.recompute = false}, Rooms{.least_host_memory = true},
        Rooms{.least_device_memory = true},
        Rooms{.recompute = false, .least_host_memory = true, .least_device_memory = true}}) {
    const ScratchDirectory scratch;
    // With dropout and a tied head: numbers are drawn, and sums are made, unit after unit.
    EngineRun run(with_rooms(config_in(scratch, Precision::kBf16), rooms), small_model());
    for (int step = 0; step < kSteps; ++step) run.step_by_batch();
    results.push_back(run.parameters());
    for (const tiering::Tier tier :
         {tiering::Tier::kDevice, tiering::Tier::kHost, tiering::Tier::kNvme}) {
      EXPECT_EQ(run.engine().use(tier).peak, run.engine().plan().total.of(tier)) << name_of(tier);
    }
  }
  for (const Parameters& result : results) expect_equal_bits(result, results.front());
}

/// What a run in fp16 says of each of its steps, and what it leaves.
struct Told {
  std::vector<double> numbers;
  Parameters parameters;
};

Told train_in_fp16(double (EngineRun::*step)()) {
  const ScratchDirectory scratch;
  EngineRun run(config_in(scratch, Precision::kFp16), model_of_one_order());
  Told told;
  for (int i = 0; i < kSteps; ++i) {
    told.numbers.push_back((run.*step)());
    told.numbers.push_back(run.report().loss_scale);
    told.numbers.push_back(run.report().grad_norm);
  }
  told.parameters = run.parameters();
  return told;
}

TEST(TrainBatch, KeepsSmallGradientsOfFp16) {
  const Told by_batch = train_in_fp16(&EngineRun::step_by_batch);
  const Told in_loop = train_in_fp16(&EngineRun::step);
  EXPECT_EQ(by_batch.numbers, in_loop.numbers);
  expect_equal_bits(by_batch.parameters, in_loop.parameters);
}

/// What moves in a step whose order is known.
CounterReading moved_in_step(std::int64_t micro_batches, bool by_batch) {
  const ScratchDirectory scratch;
  const Rooms rooms{.least_device_memory = true};
  EngineRun run(with_rooms(config_in(scratch, Precision::kBf16, micro_batches), rooms),
                small_model());
  const auto step = [&] { return by_batch ? run.step_by_batch() : run.step(); };
  for (int i = 0; i < 3; ++i) step();
  run.engine().finish_step();
  const CounterReading before = run.engine().counters();
  step();
  run.engine().finish_step();
  return run.engine().counters() - before;
}

TEST(TrainBatch, MovesAUnitTwiceAndItsGradientsOnceHoweverManyMicroBatchesThereAre) {
  const CounterReading of_two = moved_in_step(2, /*by_batch=*/true);
  const CounterReading of_five = moved_in_step(5, /*by_batch=*/true);
  for (const Hop hop :
       {Hop::kFetch, Hop::kGather, Hop::kReduce, Hop::kDrain, Hop::kStep, Hop::kFlush}) {
    EXPECT_EQ(of_two[hop].bytes, of_five[hop].bytes) << name_of(hop);
  }
  const CounterReading of_one = moved_in_step(1, /*by_batch=*/false);
  EXPECT_EQ(of_two[Hop::kGather].bytes, of_one[Hop::kGather].bytes);
  EXPECT_EQ(of_two[Hop::kDrain].bytes, 2 * of_one[Hop::kDrain].bytes) << "in fp32";
  EXPECT_GT(moved_in_step(5, /*by_batch=*/false)[Hop::kFetch].bytes, of_five[Hop::kFetch].bytes);
}

}  // namespace
}  // namespace strata::promise::train_batch_test
