#include "strata/optim_cpu/window_pipeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <string>
#include <utility>

#include "optim_cpu/offloaded_shards.h"
#include "optim_cpu/run_step.h"
#include "strata/base/error.h"
#include "support/message_of.h"
#include "support/sanitizer.h"
#include "support/sim_device.h"

namespace strata::optim_cpu {
namespace {

using support::caught;
using ::testing::HasSubstr;

/// Elements of the smallest window, whatever the format.
constexpr std::uint64_t kSmallestWindow = TestStore::kChunk;

/// All of the states.
std::set<StateKind> everything() { return {kStateKinds.begin(), kStateKinds.end()}; }

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
    tiering::HostArena arena(host_, 8_MiB, log_);
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
    tiering::HostArena arena(host_, 8_MiB, log_);
    WindowPipeline pipeline(
        {.formats = {format}, .window_elements = kSmallestWindow, .gradients_on_nvme = true},
        {.store = &store.store()}, arena, threads_, store.counters());
    for (const std::vector<std::uint32_t>& cycle : cycles)
      for (const std::set<StateKind>& on_nvme : {std::set<StateKind>{}, everything()}) {
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

  std::ostringstream log_text_;
  Logger log_{log_text_};
  tiering::Budget host_{tiering::Tier::kHost};
  ComputeThreads threads_{2};
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
                                .window_elements = kSmallestWindow,
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
                                    .window_elements = chunks * kSmallestWindow,
                                    .windows = windows,
                                    .gradients_on_nvme = true},
                                   threads, everything(), store, expected);
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
  for (const std::set<StateKind>& on_nvme : {std::set<StateKind>{}, everything()}) {
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
    tiering::HostArena arena(host_, 8_MiB, log_);
    WindowPipeline pipeline(
        {.formats = formats, .window_elements = kSmallestWindow, .gradients_on_nvme = true},
        {.store = &store.store()}, arena, threads_, store.counters());
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
  tiering::HostArena arena(host_, 1_MiB, log_);
  WindowPipeline pipeline({.formats = {Precision::kBf16}}, {}, arena, threads_, counters);
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

    tiering::HostArena arena(host_, 8_MiB, log_);
    WindowPipeline pipeline({.formats = {formats.format}, .window_elements = kSmallestWindow},
                            {.device = &device}, arena, threads_, counters);
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

TEST_F(WindowPipelineTest, StatesOnADeviceAreRefusedByAPipelineWithoutOne) {
  TestShards shards(Precision::kBf16, false);
  std::vector<ShardStates> placed = shards.place({}, nullptr);
  placed[0].m.device = {4096, std::exchange(placed[0].m.memory, {}).size()};
  Counters counters;
  tiering::HostArena arena(host_, 1_MiB, log_);
  WindowPipeline pipeline({.formats = {Precision::kBf16}}, {}, arena, threads_, counters);
  EXPECT_THAT(([&] { run_step(pipeline, placed, at_step(shards.groups())); }),
              ::testing::ThrowsMessage<UsageError>(HasSubstr("m rests on a device")));
}

TEST_F(WindowPipelineTest, TakesExactlyTheArenaBytesItAnnounces) {
  TestStore store({.backend = IoBackend::kThreads});
  for (const Formats& formats : all_formats())
    for (const bool gradients_on_nvme : {false, true}) {
      const WindowPipeline::Options options{.formats = {formats.format},
                                            .window_elements = 3 * kSmallestWindow,
                                            .windows = 2,
                                            .gradients_on_nvme = gradients_on_nvme};
      tiering::HostArena arena(host_, 8_MiB, log_);
      const WindowPipeline pipeline(options, {.store = &store.store()}, arena, threads_,
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

TEST_F(WindowPipelineTest, RefusesWindowsOffTheChunkGrid) {
  TestStore store({.backend = IoBackend::kThreads});
  tiering::HostArena arena(host_, 8_MiB, log_);
  StateFormat format;
  const auto make = [&](std::uint64_t window_elements, std::size_t windows) {
    WindowPipeline({.formats = {format}, .window_elements = window_elements, .windows = windows},
                   {.store = &store.store()}, arena, threads_, store.counters());
  };
  EXPECT_THROW(make(TestStore::kChunk / 2 + 1, 3), ConfigError);
  EXPECT_THROW(make(TestStore::kChunk / 4, 3), ConfigError);
  EXPECT_THROW(make(0, 3), ConfigError);
  EXPECT_THROW(make(kSmallestWindow, 0), ConfigError);
  format.moments = MomentFormat::kInt8;
  EXPECT_THROW(make(TestStore::kChunk / 2, 3), ConfigError);
  EXPECT_EQ(arena.used(), 0u);
}

TEST_F(WindowPipelineTest, RefusesFormatsThatNoOneOptimizerHas) {
  TestStore store({.backend = IoBackend::kThreads});
  tiering::HostArena arena(host_, 8_MiB, log_);
  const auto make = [&](const std::vector<StateFormat>& formats, std::uint64_t window_elements) {
    WindowPipeline({.formats = formats, .window_elements = window_elements},
                   {.store = &store.store()}, arena, threads_, store.counters());
  };
  StateFormat small = Precision::kBf16;
  small.moments = MomentFormat::kInt8;
  make({Precision::kFp32, small}, TestStore::kChunk);
  EXPECT_THROW(make({Precision::kFp32, small}, TestStore::kChunk / 2), ConfigError);
  small.has_v = false;
  EXPECT_THROW(make({Precision::kFp32, small}, TestStore::kChunk), ConfigError);
  EXPECT_THROW(make({}, TestStore::kChunk), ConfigError);
}

TEST_F(WindowPipelineTest, RefusesShardsThatBreakTheContractBeforeItTouchesThem) {
  TestStore store({.backend = IoBackend::kThreads});
  TestShards shards(Precision::kBf16, false);
  std::vector<OptimizerOptions> groups = shards.groups();
  tiering::HostArena arena(host_, 8_MiB, log_);
  const auto step = [&](std::span<const ShardStates> placed, const UpdateStep& update = {}) {
    WindowPipeline pipeline({.formats = {Precision::kBf16}, .window_elements = kSmallestWindow},
                            {.store = &store.store()}, arena, threads_, store.counters());
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

TEST_F(WindowPipelineTest, RefusesShardsThatAreNoWholeBlocksWhereRoundingIsRandom) {
  tiering::HostArena arena(host_, 1_MiB, log_);
  Counters counters;
  StateFormat format = Precision::kBf16;
  for (const MomentFormat moments : {MomentFormat::kBf16, MomentFormat::kInt8}) {
    format.moments = moments;
    WindowPipeline pipeline({.formats = {format}}, {}, arena, threads_, counters);
    TestShards shards(format, false);
    std::vector<ShardStates> placed = shards.place({}, nullptr);
    placed[0].segments[0].end += 1;
    placed[0].segments[1].begin += 1;
    EXPECT_THROW(run_step(pipeline, placed, at_step(shards.groups())), UsageError)
        << name_of(moments);
  }
}

// ---- over a simulated disk, which fails or takes its time
// ---------------------------------------------------

class WindowPipelineOnSimulatedDisk : public WindowPipelineTest {
 protected:
  void run() { run_step(pipeline_, placed_, at_step(shards_.groups())); }

  ManualClock clock_;
  std::shared_ptr<aio::SimulatedDisk> disk_ =
      std::make_shared<aio::SimulatedDisk>(aio::DiskOptions{}, &clock_);
  TestStore store_{disk_, clock_};
  TestShards shards_{Precision::kBf16, false};
  std::vector<ShardStates> placed_ = shards_.place(everything(), &store_);
  tiering::HostArena arena_{host_, 8_MiB, log_};
  WindowPipeline pipeline_{{.formats = {Precision::kBf16},
                            .window_elements = kSmallestWindow,
                            .gradients_on_nvme = true},
                           {.store = &store_.store()},
                           arena_,
                           threads_,
                           store_.counters()};
};

TEST_F(WindowPipelineOnSimulatedDisk, ReportsAReadThatFails) {
  disk_->inject(aio::OpKind::kRead, aio::Fault::error(EIO));
  EXPECT_THROW(run(), IoError);
}

TEST_F(WindowPipelineOnSimulatedDisk, ReportsAWriteThatFails) {
  disk_->inject(aio::OpKind::kWrite, aio::Fault::error(EIO));
  EXPECT_THROW(run(), IoError);
}

TEST_F(WindowPipelineOnSimulatedDisk, ReportsAFlippedBit) {
  disk_->inject(aio::OpKind::kRead, aio::Fault::flipped_bit());
  EXPECT_THROW(run(), CorruptData);
}

TEST_F(WindowPipelineOnSimulatedDisk, LetsGoOfEveryTransferWhenItFails) {
  disk_->inject(aio::OpKind::kRead, aio::Fault::error(EIO));
  EXPECT_THROW(run(), IoError);
  EXPECT_NO_THROW(run());  // a transfer still held would make its bytes a UsageError
}

TEST_F(WindowPipelineOnSimulatedDisk, CountsTheTimeItStandsStillForTheDisk) {
  const CounterReading before = store_.counters().read();
  const Time begin = clock_.now();
  run();
  const CounterReading spent = store_.counters().read() - before;
  const auto all = static_cast<std::uint64_t>((clock_.now() - begin) / std::chrono::nanoseconds(1));
  EXPECT_GT(spent[Hop::kFetch].wait_ns, 0u);
  EXPECT_GT(spent[Hop::kFlush].wait_ns, 0u);
  EXPECT_EQ(spent[Hop::kFetch].wait_ns + spent[Hop::kFlush].wait_ns, all)
      << "only the disk takes time here";
}

TEST_F(WindowPipelineTest, CountsTheTimeOfTheArithmetic) {
  TestStore store({.backend = IoBackend::kThreads});
  expect_bits_of_reference({.formats = {Precision::kBf16}, .window_elements = kSmallestWindow}, 1,
                           {}, store, {Precision::kBf16, false, TestShards::adam_groups()});
  EXPECT_GT(store.counters().read()[Hop::kStep].busy_ns, 0u);
}

TEST_F(WindowPipelineOnSimulatedDisk, SaysAtOnceThatOthersHoldEveryPlaceAndGoesOnWhenTheyHaveLeft) {
  TestStore crowded(disk_, clock_, 2);
  TestShards shards(Precision::kBf16, false);
  const std::vector<ShardStates> placed = shards.place(everything(), &crowded);
  WindowPipeline pipeline({.formats = {Precision::kBf16},
                           .window_elements = kSmallestWindow,
                           .gradients_on_nvme = true},
                          {.store = &crowded.store()}, arena_, threads_, crowded.counters());
  {
    const std::span<std::byte> memory = arena_.take(2 * TestStore::kChunk, "prefetched shards");
    const tiering::ByteRange range{0, TestStore::kChunk};
    auto one =
        fetch(crowded.store(), *placed[0].weight.extent, range, memory.first(TestStore::kChunk));
    auto other =
        fetch(crowded.store(), *placed[0].weight.extent, range, memory.last(TestStore::kChunk));
    pipeline.begin(at_step(shards.groups()));
    for (const ShardStates& shard : placed) ASSERT_TRUE(pipeline.offer(shard));
    EXPECT_FALSE(pipeline.finish());
  }
  EXPECT_TRUE(pipeline.finish());
}

// ---- overlap ----------------------------------------------------------------------------------

TEST_F(WindowPipelineOnSimulatedDisk, ReadsTheNextWindowsBeforeItWritesTheFirst) {
  constexpr std::size_t kWindows = 3;
  constexpr std::size_t kReadsPerWindow = 5;  // weight, master, m, v, gradient
  disk_->start_trace();
  run();
  const std::vector<aio::DiskEvent> requests = disk_->trace();
  const auto first_write = std::ranges::find(requests, aio::OpKind::kWrite, &aio::DiskEvent::kind);
  EXPECT_GE(first_write - requests.begin(), std::ptrdiff_t{kWindows * kReadsPerWindow});
  const auto reads = std::ranges::count(requests, aio::OpKind::kRead, &aio::DiskEvent::kind);
  const auto writes = std::ranges::count(requests, aio::OpKind::kWrite, &aio::DiskEvent::kind);
  EXPECT_EQ(4 * reads, 5 * writes) << "the gradient is not written";
}

TEST_F(WindowPipelineOnSimulatedDisk, MovesNothingWhereNothingIsUpdated) {
  for (ShardStates& shard : placed_) shard.segments = {{0, shard.count, kNotUpdated}};
  disk_->start_trace();
  run_step(pipeline_, placed_, {});
  EXPECT_TRUE(disk_->trace().empty());

  // Of a shard of two windows, only the second.
  ShardStates& two_windows = placed_[2];
  ASSERT_EQ(two_windows.count, 2 * kSmallestWindow);
  two_windows.segments = {{0, kSmallestWindow, kNotUpdated},
                          {kSmallestWindow, two_windows.count, 0}};
  run();
  const std::vector<aio::DiskEvent> requests = disk_->trace();
  EXPECT_EQ(std::ranges::count(requests, aio::OpKind::kRead, &aio::DiskEvent::kind), 5);
  EXPECT_EQ(std::ranges::count(requests, aio::OpKind::kWrite, &aio::DiskEvent::kind), 4);
}

}  // namespace
}  // namespace strata::optim_cpu
