#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "optim_cpu/offloaded_shards.h"
#include "optim_cpu/run_step.h"
#include "optim_cpu/step_tools.h"
#include "strata/base/error.h"
#include "strata/optim_cpu/window_pipeline.h"
#include "support/torture.h"

// Two steps of the optimizer over states that rest on a simulated disk: store, windows and
// arithmetic on one thread, in the disk's time. What a seed brings about, it brings about again.

namespace strata::optim_cpu::simulated_step_test {
namespace {

using aio::Fault;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr std::int64_t kSteps = 2;

/// Everything that a disk can do wrong, each now and then.
std::vector<aio::FaultChance> all_faults(double probability) {
  return {
      {Fault::error(EIO), probability},      {Fault::error(ENOSPC), probability},
      {Fault::try_again(), 5 * probability}, {Fault::shortened(), 5 * probability},
      {Fault::end_of_file(), probability},   {Fault::torn(), probability},
      {Fault::lost(), probability},          {Fault::misdirected(TestStore::kChunk), probability},
      {Fault::flipped_bit(), probability},   {Fault::slow(milliseconds(50)), 5 * probability},
      {Fault::stuck(), probability / 4}};
}

/// What can be seen of a run.
struct Outcome {
  std::string error;  ///< "" or what was thrown
  std::vector<aio::DiskEvent> trace;
  nanoseconds time{0};
  bool has_bits_of_reference = false;
};

class SimulatedStep : public ::testing::Test {
 protected:
  SimulatedStep() {
    for (std::int64_t step = 1; step <= kSteps; ++step) {
      expected_.step_by_reference(at_step(expected_.groups(), {.step = step}));
    }
  }

  Outcome run(std::uint64_t seed, const std::vector<aio::FaultChance>& chances,
              std::uint32_t operations_max = 64) {
    ManualClock clock;
    const auto disk = std::make_shared<aio::SimulatedDisk>(
        aio::DiskOptions{.seed = seed, .read_bytes_per_second = 4e8, .overlap = 0.3}, &clock);
    TestStore store(disk, clock, operations_max);
    TestShards shards = begin_;
    const std::vector<ShardStates> placed = shards.place(every_kind(), &store);
    tiering::HostArena arena = tools_.arena(2_MiB);
    WindowPipeline pipeline(smallest_windows(format_), {.store = &store.store()}, arena,
                            tools_.threads, store.counters());
    Outcome outcome;
    disk->set_chances(chances);
    disk->start_trace();
    const Time begin = clock.now();
    try {
      for (std::int64_t step = 1; step <= kSteps; ++step) {
        run_step(pipeline, placed, at_step(shards.groups(), {.step = step}));
      }
      shards.collect(placed, store);
    } catch (const Error& error) {
      outcome.error = error.what();
    }
    outcome.time = clock.now() - begin;
    outcome.trace = disk->trace();
    outcome.has_bits_of_reference = outcome.error.empty() && same_bits(expected_, shards);
    return outcome;
  }

  const StateFormat format_ = Precision::kBf16;
  StepTools tools_{1};
  const TestShards begin_{format_, false};
  TestShards expected_ = begin_;
};

TEST_F(SimulatedStep, HasTheBitsOfTheReferenceAndOneTimeForEachSeed) {
  const Outcome first = run(1, {});
  EXPECT_TRUE(first.has_bits_of_reference) << first.error;
  EXPECT_GT(first.time, nanoseconds(0));
  const Outcome other = run(2, {});
  EXPECT_TRUE(other.has_bits_of_reference) << other.error;
  EXPECT_NE(other.time, first.time);
}

TEST_F(SimulatedStep, RepeatsEveryOperationTimeFaultAndErrorOfASeed) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    const Outcome once = run(seed, all_faults(0.004));
    const Outcome again = run(seed, all_faults(0.004));
    EXPECT_EQ(once.trace, again.trace) << "seed " << seed;
    EXPECT_EQ(once.time, again.time) << "seed " << seed;
    EXPECT_EQ(once.error.empty(), again.error.empty()) << "seed " << seed;
  }
}

TEST_F(SimulatedStep, HasTheBitsOfTheReferenceWithRoomForFewOperations) {
  for (const std::uint32_t operations_max : {1u, 2u, 3u, 7u}) {
    EXPECT_TRUE(run(3, {}, operations_max).has_bits_of_reference) << operations_max;
  }
}

TEST_F(SimulatedStep, GoesOnAcrossEverythingThatADriverCanRepair) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const Outcome repaired = run(seed, {{Fault::shortened(), 0.1},
                                        {Fault::try_again(), 0.1},
                                        {Fault::slow(std::chrono::seconds(20)), 0.01}});
    EXPECT_TRUE(repaired.has_bits_of_reference) << "seed " << seed << ": " << repaired.error;
  }
}

TEST_F(SimulatedStep, EndsInTheRightBytesOrInAnErrorWhateverTheDiskDoes) {
  const std::uint64_t seeds = support::torture_cases(300);
  const std::uint64_t first = (support::torture_seed() - 1) * seeds + 1;
  // Ten attempts at a request that is slow or stuck, at most, and then its deadline.
  constexpr std::chrono::minutes kTimeMax{10};
  std::size_t right = 0;
  std::size_t refused = 0;
  std::set<Fault::Kind> struck;
  for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
    const Outcome ended = run(seed, all_faults(0.001), seed % 5 == 0 ? 3 : 64);
    EXPECT_TRUE(ended.has_bits_of_reference || !ended.error.empty())
        << "seed " << seed << " ended with other bytes and without a word";
    EXPECT_LT(ended.time, kTimeMax) << "seed " << seed;
    ++(ended.error.empty() ? right : refused);
    for (const aio::DiskEvent& event : ended.trace) struck.insert(event.fault.kind);
  }
  EXPECT_GT(right, seeds / 10);
  EXPECT_GT(refused, seeds / 10);
  EXPECT_EQ(struck.size(), 11u) << "every fault, and none";
  support::report_cases("optimizer steps over a disk that fails", seeds);
}

}  // namespace
}  // namespace strata::optim_cpu::simulated_step_test
