#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "aio/allocation_counter.h"
#include "optim_cpu/offloaded_shards.h"
#include "optim_cpu/run_step.h"
#include "optim_cpu/step_tools.h"
#include "strata/optim_cpu/window_pipeline.h"

namespace strata::optim_cpu::step_allocation_test {
namespace {

TEST(StepAllocation, ASteadyStepAllocatesNothingWhereverTheStatesRest) {
  // With one transfer at a time the store is warm after a step, whatever the disk's times.
  TestStore store({.backend = IoBackend::kThreads, .operations_max = 1});
  StepTools tools(1);
  tiering::HostArena arena = tools.arena(2_MiB);
  WindowPipeline pipeline(smallest_windows(Precision::kBf16), {.store = &store.store()}, arena,
                          tools.threads, store.counters());
  for (const std::set<StateKind>& on_nvme : {std::set<StateKind>{}, every_kind()}) {
    TestShards shards(Precision::kBf16, false);
    const std::vector<UpdateGroup> groups = at_step(shards.groups());
    const std::vector<ShardStates> placed = shards.place(on_nvme, &store);
    const auto step_by_hand = [&] {
      pipeline.begin(groups);
      for (const ShardStates& shard : placed) {
        EXPECT_TRUE(pipeline.offer(shard));
        pipeline.pump();
      }
      EXPECT_TRUE(pipeline.finish());
    };
    step_by_hand();
    const std::uint64_t before = aio::allocations_so_far();
    step_by_hand();
    run_step(pipeline, placed, groups);
    EXPECT_EQ(aio::allocations_so_far(), before) << on_nvme.size() << " states on nvme";
  }
}

}  // namespace
}  // namespace strata::optim_cpu::step_allocation_test
