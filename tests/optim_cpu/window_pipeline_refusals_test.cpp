#include "strata/optim_cpu/window_pipeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "optim_cpu/offloaded_shards.h"
#include "optim_cpu/run_step.h"
#include "optim_cpu/step_tools.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "support/message_of.h"

namespace strata::optim_cpu::window_pipeline_refusals_test {
namespace {

using support::caught;
using ::testing::HasSubstr;

class WindowPipelineRefuses : public ::testing::Test {
 protected:
  StepTools tools_{2};
};

TEST_F(WindowPipelineRefuses, StatesOnADeviceWhereItHasNone) {
  TestShards shards(Precision::kBf16, false);
  std::vector<ShardStates> placed = shards.place({}, nullptr);
  placed[0].m.device = {4096, std::exchange(placed[0].m.memory, {}).size()};
  Counters counters;
  tiering::HostArena arena = tools_.arena(1_MiB);
  WindowPipeline pipeline({.formats = {Precision::kBf16}}, {}, arena, tools_.threads, counters);
  EXPECT_THAT(([&] { run_step(pipeline, placed, at_step(shards.groups())); }),
              ::testing::ThrowsMessage<UsageError>(HasSubstr("m rests on a device")));
}

TEST_F(WindowPipelineRefuses, WindowsOffTheChunkGrid) {
  TestStore store({.backend = IoBackend::kThreads});
  tiering::HostArena arena = tools_.arena(8_MiB);
  StateFormat format;
  const auto make = [&](std::uint64_t window_elements, std::size_t windows) {
    WindowPipeline({.formats = {format}, .window_elements = window_elements, .windows = windows},
                   {.store = &store.store()}, arena, tools_.threads, store.counters());
  };
  EXPECT_THROW(make(TestStore::kChunk / 2 + 1, 3), ConfigError);
  EXPECT_THROW(make(TestStore::kChunk / 4, 3), ConfigError);
  EXPECT_THROW(make(0, 3), ConfigError);
  EXPECT_THROW(make(TestStore::kChunk, 0), ConfigError);
  format.moments = MomentFormat::kInt8;
  EXPECT_THROW(make(TestStore::kChunk / 2, 3), ConfigError);
  EXPECT_EQ(arena.used(), 0u);
}

TEST_F(WindowPipelineRefuses, FormatsThatNoOneOptimizerHas) {
  TestStore store({.backend = IoBackend::kThreads});
  tiering::HostArena arena = tools_.arena(8_MiB);
  const auto make = [&](const std::vector<StateFormat>& formats, std::uint64_t window_elements) {
    WindowPipeline({.formats = formats, .window_elements = window_elements},
                   {.store = &store.store()}, arena, tools_.threads, store.counters());
  };
  StateFormat small = Precision::kBf16;
  small.moments = MomentFormat::kInt8;
  make({Precision::kFp32, small}, TestStore::kChunk);
  EXPECT_THROW(make({Precision::kFp32, small}, TestStore::kChunk / 2), ConfigError);
  small.has_v = false;
  EXPECT_THROW(make({Precision::kFp32, small}, TestStore::kChunk), ConfigError);
  EXPECT_THROW(make({}, TestStore::kChunk), ConfigError);
}

TEST_F(WindowPipelineRefuses, ShardsThatBreakTheContractBeforeItTouchesThem) {
  TestStore store({.backend = IoBackend::kThreads});
  TestShards shards(Precision::kBf16, false);
  std::vector<OptimizerOptions> groups = shards.groups();
  tiering::HostArena arena = tools_.arena(8_MiB);
  const auto step = [&](std::span<const ShardStates> placed, const UpdateStep& update = {}) {
    WindowPipeline pipeline({.formats = {Precision::kBf16}, .window_elements = TestStore::kChunk},
                            {.store = &store.store()}, arena, tools_.threads, store.counters());
    run_step(pipeline, placed, at_step(groups, update));
  };
  const auto expect_refused = [&](const std::string& word, auto&& spoil) {
    std::vector<ShardStates> placed = shards.place({}, nullptr);
    spoil(placed[2]);
    const auto error = caught<UsageError>([&] { step(placed); });
    ASSERT_TRUE(error);
    EXPECT_THAT(error->what(), HasSubstr("shard 2"));
    EXPECT_THAT(error->what(), HasSubstr(word));
  };
  expect_refused("weight has", [](ShardStates& shard) { shard.weight.memory = {}; });
  expect_refused("two places", [&](ShardStates& shard) {
    shard.m.extent = store.extent(0, StateKind::kM, shard.m.memory.size());
  });
  expect_refused("gradients_on_nvme", [&](ShardStates& shard) {
    shard.gradient = {
        .memory = {},
        .extent = store.extent(0, StateKind::kGradient, shard.gradient.memory.size())};
  });
  expect_refused("segments end", [](ShardStates& shard) { shard.segments.pop_back(); });
  expect_refused("does not continue", [](ShardStates& shard) { shard.segments[1].begin++; });
  expect_refused("group 7", [](ShardStates& shard) { shard.segments[1].group = 7; });
  expect_refused("state format", [](ShardStates& shard) { shard.format = Precision::kFp16; });

  EXPECT_THROW(step(shards.place({}, nullptr), {.step = 0}), UsageError);

  groups[1] = LionOptions{};
  EXPECT_THROW(step(shards.place({}, nullptr)), UsageError);
  groups = {LionOptions{}, LionOptions{}};
  EXPECT_THROW(step(shards.place({}, nullptr)), UsageError);

  TestShards untouched(Precision::kBf16, false);
  EXPECT_TRUE(same_bits(untouched, shards));
}

TEST_F(WindowPipelineRefuses, ShardsThatAreNoWholeBlocksWhereRoundingIsRandom) {
  tiering::HostArena arena = tools_.arena(1_MiB);
  Counters counters;
  StateFormat format = Precision::kBf16;
  for (const MomentFormat moments : {MomentFormat::kBf16, MomentFormat::kInt8}) {
    format.moments = moments;
    WindowPipeline pipeline({.formats = {format}}, {}, arena, tools_.threads, counters);
    TestShards shards(format, false);
    std::vector<ShardStates> placed = shards.place({}, nullptr);
    placed[0].segments[0].end += 1;
    placed[0].segments[1].begin += 1;
    EXPECT_THROW(run_step(pipeline, placed, at_step(shards.groups())), UsageError)
        << name_of(moments);
  }
}

}  // namespace
}  // namespace strata::optim_cpu::window_pipeline_refusals_test
