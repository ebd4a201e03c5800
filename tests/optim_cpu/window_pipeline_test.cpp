#include "strata/optim_cpu/window_pipeline.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "optim_cpu/offloaded_shards.h"
#include "optim_cpu/run_step.h"
#include "optim_cpu/step_tools.h"
#include "strata/base/units.h"
#include "support/sanitizer.h"
#include "support/sim_device.h"

namespace strata::optim_cpu::window_pipeline_test {
namespace {

std::set<StateKind> subset(unsigned mask) {
  std::set<StateKind> chosen;
  for (const StateKind kind : kStateKinds)
    if (mask >> static_cast<unsigned>(kind) & 1) chosen.insert(kind);
  return chosen;
}

/// Two steps by the reference, made once for all the ways to make them: what they are, and the
/// shards before and after each.
struct ReferenceSteps {
  ReferenceSteps(const StateFormat& format, bool gradient_fp32,
                 const std::vector<OptimizerOptions>& groups) {
    TestShards shards(format, gradient_fp32, groups);
    for (std::int64_t step = 1; step <= 2; ++step) {
      updates.push_back(at_step(groups, {step, 0.5f}));
      before.push_back(shards);
      shards.step_by_reference(updates.back());
      after.push_back(shards);
      shards.set_gradients(static_cast<std::uint64_t>(step));
    }
  }

  std::vector<std::vector<UpdateGroup>> updates;
  std::vector<TestShards> before, after;
};

class WindowPipelineTest : public ::testing::Test {
 protected:
  /// The steps of `expected` by a pipeline, over shards placed like that.
  void expect_bits_of_reference(const WindowPipeline::Options& options, int thread_count,
                                const std::set<StateKind>& on_nvme, TestStore& store,
                                const ReferenceSteps& expected) {
    TestShards actual = expected.before.front();
    tiering::HostArena arena = tools_.arena(8_MiB);
    ComputeThreads threads(thread_count);
    WindowPipeline pipeline(options, {.store = &store.store()}, arena, threads, store.counters());
    for (std::size_t i = 0; i < expected.updates.size(); ++i) {
      actual = expected.before[i];
      const std::vector<ShardStates> placed = actual.place(on_nvme, &store);
      run_step(pipeline, placed, expected.updates[i]);
      actual.collect(placed, store);
      ASSERT_TRUE(same_bits(expected.after[i], actual)) << "after step " << i + 1;
    }
  }

  /// One step of shards whose segments take the groups of each cycle, with all states in memory and
  /// with all on nvme.
  void expect_bits_of_reference_everywhere(const StateFormat& format, bool gradient_fp32,
                                           const std::vector<UpdateGroup>& updates,
                                           const std::vector<std::vector<std::uint32_t>>& cycles) {
    TestStore store({.backend = IoBackend::kThreads});
    tiering::HostArena arena = tools_.arena(8_MiB);
    WindowPipeline pipeline(smallest_windows(format), {.store = &store.store()}, arena,
                            tools_.threads, store.counters());
    for (const std::vector<std::uint32_t>& cycle : cycles)
      for (const std::set<StateKind>& on_nvme : {std::set<StateKind>{}, every_kind()}) {
        TestShards expected(format, gradient_fp32);
        TestShards actual(format, gradient_fp32);
        expected.set_groups_of_segments(cycle);
        actual.set_groups_of_segments(cycle);
        expected.step_by_reference(updates);
        const std::vector<ShardStates> placed = actual.place(on_nvme, &store);
        run_step(pipeline, placed, updates);
        actual.collect(placed, store);
        EXPECT_TRUE(same_bits(expected, actual));
      }
  }

  StepTools tools_{2};
};

struct Formats {
  std::string name;
  StateFormat format;
  bool gradient_fp32;
  std::vector<OptimizerOptions> groups;

  friend void PrintTo(const Formats& formats, std::ostream* out) { *out << formats.name; }
};

std::vector<Formats> all_formats() {
  const auto adam = TestShards::adam_groups();
  std::vector<Formats> all = {{"fp32", Precision::kFp32, true, adam},
                              {"bf16_own_gradient", Precision::kBf16, false, adam},
                              {"bf16_fp32_gradient", Precision::kBf16, true, adam},
                              {"fp16_own_gradient", Precision::kFp16, false, adam},
                              {"fp16_fp32_gradient", Precision::kFp16, true, adam}};
  StateFormat format = Precision::kBf16;
  format.moments = MomentFormat::kBf16;
  all.push_back({"bf16_moments", format, false, adam});
  format.moments = MomentFormat::kInt8;
  all.push_back({"int8_moments", format, false, adam});
  format.master = MasterFormat::k24Bit;
  all.push_back({"int8_moments_24bit", format, true, adam});
  format.has_v = false;
  all.push_back({"lion_int8_24bit",
                 format,
                 false,
                 {LionOptions{.weight_decay = 0.1}, LionOptions{.lr = 1e-3}}});
  format = Precision::kFp32;
  format.has_m = false;
  all.push_back({"adagrad", format, true, {AdagradOptions{}, AdagradOptions{.lr = 1e-3}}});
  format.has_v = false;
  all.push_back({"sgd", format, true, {SgdOptions{}, SgdOptions{.lr = 0.1}}});
  return all;
}

class WindowPipelineFormats : public WindowPipelineTest,
                              public ::testing::WithParamInterface<Formats> {};

INSTANTIATE_TEST_SUITE_P(All, WindowPipelineFormats,
                         ::testing::ValuesIn(support::of_same_threads(all_formats(), 5)),
                         [](const auto& test) { return test.param.name; });

TEST_P(WindowPipelineFormats, GivesTheBitsOfTheReferenceWhereverTheStatesRest) {
  const auto& [name, format, gradient_fp32, groups] = GetParam();
  const ReferenceSteps expected(format, gradient_fp32, groups);
  TestStore store({.backend = IoBackend::kThreads});
  for (unsigned mask = 0; mask < 1u << kStateKindCount; ++mask)
    for (const std::size_t windows : {1u, 2u, 3u}) {
      SCOPED_TRACE("mask " + std::to_string(mask) + ", windows " + std::to_string(windows));
      expect_bits_of_reference({.formats = {format},
                                .window_elements = TestStore::kChunk,
                                .windows = windows,
                                .gradients_on_nvme = true},
                               /*thread_count=*/2, subset(mask), store, expected);
    }
}

TEST_P(WindowPipelineFormats, GivesTheSameBitsForEveryWindowThreadAndBackend) {
  const auto& [name, format, gradient_fp32, groups] = GetParam();
  const ReferenceSteps expected(format, gradient_fp32, groups);
  // With room for one or two operations, "not now" is what the store says most of the time.
  const std::array queues = {
      aio::IoQueueOptions{.backend = IoBackend::kAuto},
      aio::IoQueueOptions{.backend = IoBackend::kAuto, .operations_max = 1},
      aio::IoQueueOptions{.backend = IoBackend::kThreads, .operations_max = 2}};
  for (const aio::IoQueueOptions& queue : queues) {
    TestStore store(queue);
    for (const std::uint64_t chunks : {1u, 3u, 8u})
      for (const std::size_t windows : {1u, 2u, 3u})
        for (const int threads : {1, 2}) {
          SCOPED_TRACE("windows " + std::to_string(windows) + " of " + std::to_string(chunks) +
                       " chunks, threads " + std::to_string(threads) + ", operations_max " +
                       std::to_string(queue.operations_max));
          expect_bits_of_reference({.formats = {format},
                                    .window_elements = chunks * TestStore::kChunk,
                                    .windows = windows,
                                    .gradients_on_nvme = true},
                                   threads, every_kind(), store, expected);
        }
  }
}

TEST_P(WindowPipelineFormats, UpdatesEverySegmentAtTheStepOfItsGroup) {
  const auto& [name, format, gradient_fp32, groups] = GetParam();
  const std::vector<UpdateGroup> updates = {{groups[0], {.step = 2001, .gradient_scale = 0.5f}},
                                            {groups[1], {.step = 1, .gradient_scale = 0.25f}}};
  expect_bits_of_reference_everywhere(format, gradient_fp32, updates, {{0, 1}});
}

TEST_P(WindowPipelineFormats, LeavesWhatIsNotUpdatedBitForBitAsItIs) {
  const auto& [name, format, gradient_fp32, groups] = GetParam();
  expect_bits_of_reference_everywhere(format, gradient_fp32, at_step(groups),
                                      {{kNotUpdated, 0, 1},
                                       {1, kNotUpdated},
                                       {kNotUpdated, kNotUpdated, kNotUpdated, kNotUpdated, 0}});
}

TEST_F(WindowPipelineTest, UpdatesShardsOfSeveralFormatsInOneRun) {
  StateFormat small = Precision::kBf16;
  small.master = MasterFormat::k24Bit;
  small.moments = MomentFormat::kInt8;
  const std::vector<StateFormat> formats = {Precision::kBf16, Precision::kFp32, small};
  TestStore store({.backend = IoBackend::kThreads});
  for (const std::set<StateKind>& on_nvme : {std::set<StateKind>{}, every_kind()}) {
    std::vector<TestShards> expected;
    std::vector<TestShards> actual;
    std::vector<ShardStates> placed;
    for (const StateFormat& format : formats) {
      for (auto* shards : {&expected, &actual}) {
        shards->emplace_back(format, format.precision == Precision::kFp32);
        shards->back().number_from(placed.size());
      }
      expected.back().step_by_reference(at_step(TestShards::adam_groups()));
      std::ranges::copy(actual.back().place(on_nvme, &store), std::back_inserter(placed));
    }
    tiering::HostArena arena = tools_.arena(8_MiB);
    WindowPipeline pipeline(
        {.formats = formats, .window_elements = TestStore::kChunk, .gradients_on_nvme = true},
        {.store = &store.store()}, arena, tools_.threads, store.counters());
    run_step(pipeline, placed, at_step(TestShards::adam_groups()));
    const std::size_t each = placed.size() / formats.size();
    for (std::size_t i = 0; i < formats.size(); ++i) {
      actual[i].collect(std::span(placed).subspan(i * each, each), store);
      EXPECT_TRUE(same_bits(expected[i], actual[i])) << "format " << i;
    }
  }
}

TEST_F(WindowPipelineTest, NeedsNeitherStoreNorArenaWhenAllRestsInMemory) {
  TestShards expected(Precision::kBf16, false);
  TestShards actual(Precision::kBf16, false);
  Counters counters;
  tiering::HostArena arena = tools_.arena(1_MiB);
  WindowPipeline pipeline({.formats = {Precision::kBf16}}, {}, arena, tools_.threads, counters);
  run_step(pipeline, actual.place({}, nullptr), at_step(actual.groups()));
  expected.step_by_reference(at_step(expected.groups()));
  EXPECT_TRUE(same_bits(expected, actual));
  EXPECT_EQ(arena.used(), 0u);
  EXPECT_GT(counters.read()[Hop::kStep].busy_ns, 0u);
  EXPECT_EQ(counters.read()[Hop::kFetch].wait_ns, 0u);
}

TEST_F(WindowPipelineTest, StatesOnADeviceGetTheBitsOfTheReferenceAndEveryAccessIsOrdered) {
  for (const Formats& formats : all_formats()) {
    support::SimDevice device({.max_delay = std::chrono::microseconds(100)});
    Counters counters;
    TestShards expected(formats.format, formats.gradient_fp32, formats.groups);
    TestShards actual(formats.format, formats.gradient_fp32, formats.groups);
    std::vector<ShardStates> placed = actual.place({}, nullptr);
    std::vector<tiering::DeviceMemory> memory;
    std::vector<std::pair<std::span<std::byte>, tiering::DeviceSpan>> homes;
    for (ShardStates& shard : placed)
      for (tiering::StateHome* const home : {&shard.weight, &shard.master, &shard.m, &shard.v}) {
        if (home->memory.empty()) continue;
        memory.push_back(device.allocate(home->memory.size(), "state"));
        homes.emplace_back(std::exchange(home->memory, {}), memory.back().span());
        home->device = memory.back().span();
        tiering::upload(device, homes.back().first, home->device, counters).wait();
      }

    tiering::HostArena arena = tools_.arena(8_MiB);
    WindowPipeline pipeline({.formats = {formats.format}, .window_elements = TestStore::kChunk},
                            {.device = &device}, arena, tools_.threads, counters);
    for (std::int64_t step = 1; step <= 2; ++step) {
      expected.step_by_reference(at_step(expected.groups(), {step, 0.5f}));
      run_step(pipeline, placed, at_step(actual.groups(), {step, 0.5f}));
    }
    for (const auto& [host, on_device] : homes)
      tiering::drain(device, on_device, host, counters).wait();
    EXPECT_TRUE(same_bits(expected, actual));
    for (const support::Race& race : device.races()) ADD_FAILURE() << race.text;
  }
}

TEST_F(WindowPipelineTest, CountsTheTimeOfTheArithmetic) {
  TestStore store({.backend = IoBackend::kThreads});
  expect_bits_of_reference({.formats = {Precision::kBf16}, .window_elements = TestStore::kChunk}, 1,
                           {}, store, {Precision::kBf16, false, TestShards::adam_groups()});
  EXPECT_GT(store.counters().read()[Hop::kStep].busy_ns, 0u);
}

TEST_F(WindowPipelineTest, TakesExactlyTheArenaBytesItAnnounces) {
  TestStore store({.backend = IoBackend::kThreads});
  for (const Formats& formats : all_formats())
    for (const bool gradients_on_nvme : {false, true}) {
      const WindowPipeline::Options options{.formats = {formats.format},
                                            .window_elements = 3 * TestStore::kChunk,
                                            .windows = 2,
                                            .gradients_on_nvme = gradients_on_nvme};
      tiering::HostArena arena = tools_.arena(8_MiB);
      const WindowPipeline pipeline(options, {.store = &store.store()}, arena, tools_.threads,
                                    store.counters());
      EXPECT_EQ(arena.used(), WindowPipeline::arena_bytes(options));
    }
  EXPECT_EQ(WindowPipeline::arena_bytes(
                {.formats = {Precision::kBf16}, .window_elements = 1u << 20, .windows = 3}),
            3 * (2 + 2 + 4 + 4) * 1_MiB);
  StateFormat smallest = Precision::kBf16;
  smallest.master = MasterFormat::k24Bit;
  smallest.moments = MomentFormat::kInt8;
  EXPECT_EQ(WindowPipeline::arena_bytes(
                {.formats = {smallest}, .window_elements = 1u << 20, .windows = 3}),
            3 * (2 + 1 + 1 + 1) * 1_MiB);
  EXPECT_EQ(WindowPipeline::arena_bytes({.formats = {Precision::kBf16, Precision::kFp32, smallest},
                                         .window_elements = 1u << 20,
                                         .windows = 3}),
            3 * (4 + 2 + 4 + 4) * 1_MiB);
}

}  // namespace
}  // namespace strata::optim_cpu::window_pipeline_test
