#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

#include "promise/in_memory_loop.h"
#include "promise/training_run.h"
#include "promise/world_run.h"
#include "strata/base/units.h"

/// \file
/// Dropout on several ranks, each of which has a device with a generator of its own: the numbers
/// are those of an in-memory loop that seeds its one generator as each rank seeds its own, also
/// where forward is computed again for backward.
///
/// Nothing of this holds for ranks that are threads and compute on the CPU, because all of them
/// draw from one generator: what one draws depends on when the others do, and a state that one puts
/// back for computing again is lost to another's numbers. So this file is in the program of the
/// simulated accelerator alone. Processes have a generator each on the CPU too.

namespace strata::promise::world_dropout_test {
namespace {

class Dropout : public testing::TestWithParam<std::tuple<int, bool>> {};

TEST_P(Dropout, DropsOnEveryRankWhatTheInMemoryLoopDrops) {
  const OneThreadEach one_thread;
  const auto& [size, recompute] = GetParam();
  const ScratchDirectory scratch;
  Job job{nvme_config(scratch.path(), Precision::kBf16, /*accumulation=*/2),
          small_model(/*tied=*/true)};
  job.config.strata.recompute = recompute;
  InMemoryLoop in_memory(job.config, job.model, size, InMemoryLoop::Ties::kUseByUse);
  for (int step = 0; step < job.steps; ++step) in_memory.step();
  const Parameters expected = in_memory.parameters();
  for (const Parameters& actual : train({.size = size, .seed = 8}, job)) {
    expect_equal_bits(actual, expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Worlds, Dropout,
                         testing::Combine(testing::Values(1, 2, 3, 4), testing::Bool()),
                         [](const auto& tested) {
                           return std::to_string(std::get<int>(tested.param)) +
                                  (std::get<bool>(tested.param) ? "_recomputed" : "_kept");
                         });

/// A batch draws unit after unit, so that no loop has its numbers.
TEST(Dropout, DropsTheSameInABatchHoweverItIsRun) {
  const OneThreadEach one_thread;
  std::vector<Parameters> results;
  for (const bool recompute : {true, false}) {
    for (const bool away : {false, true}) {
      if (away && !recompute) continue;  // what is kept is not put away
      const ScratchDirectory scratch;
      Job job{nvme_config(scratch.path(), Precision::kBf16, /*accumulation=*/3), small_model(),
              &EngineRun::step_by_batch};
      job.config.strata.recompute = recompute;
      if (away) job.config.strata.activations_host_bytes = 1_MiB;
      for (Parameters& of_rank : train({.size = 3, .seed = 9}, job)) {
        results.push_back(std::move(of_rank));
      }
    }
  }
  for (const Parameters& result : results) expect_equal_bits(result, results.front());
}

}  // namespace
}  // namespace strata::promise::world_dropout_test
