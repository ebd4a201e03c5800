#include "search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>

#include "ds_nvme_bench/synthetic_disk.h"
#include "support/message_of.h"

namespace strata::nvme_bench::search_test {
namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;
using support::message_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::uint32_t kCores = 8;
const std::vector<IoBackend> kEngines = {IoBackend::kIoUring, IoBackend::kLibaio,
                                         IoBackend::kThreads};

struct Shape {
  std::string name;
  SyntheticDisk disk;
};

/// A virtual disk: everything is on one plateau from a few MiB in flight on, reads and writes
/// share.
SyntheticDisk virtio_plateau() {
  SyntheticDisk disk;
  disk.read_max = 2e9;
  disk.write_max = 2.2e9;
  disk.mu = 0;
  return disk;
}

/// Fast and wide: needs many requests in flight, and a second thread at small blocks.
SyntheticDisk deep_queue() {
  SyntheticDisk disk;
  disk.read_max = 13e9;
  disk.write_max = 10e9;
  disk.channel = 0.2e9;
  disk.mu = 0.6;
  disk.engines[IoBackend::kLibaio].seconds_per_request = 4e-6;
  return disk;
}

/// The peak is narrow: too much in flight, and too large blocks, cost speed.
SyntheticDisk narrow_peak() {
  SyntheticDisk disk;
  disk.channel = 0.8e9;
  disk.cache_bytes = 12e6;
  disk.overload = 0.12;
  disk.large_block_penalty = 0.08;
  return disk;
}

/// Fast until 30 GB are written, as with an SLC cache; the search is not over then.
SyntheticDisk slows_down() {
  SyntheticDisk disk = narrow_peak();
  disk.fast_bytes = 30e9;
  disk.slow_share = 0.3;
  return disk;
}

/// io_uring is refused, and threads are slow.
SyntheticDisk sandboxed() {
  SyntheticDisk disk;
  disk.engines[IoBackend::kIoUring].works = false;
  disk.engines[IoBackend::kThreads] = {40e-6, 4};
  return disk;
}

std::vector<Shape> shapes() {
  return {{"virtio plateau", virtio_plateau()},
          {"deep queue", deep_queue()},
          {"narrow peak", narrow_peak()},
          {"slows down", slows_down()},
          {"sandboxed", sandboxed()}};
}

SearchSpace space() { return SearchSpace::usual(kEngines, kCores, 1_GiB); }

/// The best there is, by looking at everything without noise.
double best_seconds(const SyntheticDisk& disk) {
  double best = INFINITY;
  for (const Setting& setting : space().all()) {
    if (disk.engines.at(setting.engine).works) best = std::min(best, disk.seconds(setting));
  }
  return best;
}

struct Searched {
  SearchResult result;
  nanoseconds used{0};
};

Searched search_on(const SyntheticDisk& disk, const SearchSpace& where, unsigned seed = 1,
                   const SearchOptions& options = {}) {
  Searched run;
  std::mt19937 random(seed);
  run.result = search(where, options, disk.measure(run.used, random), [&run] { return run.used; });
  return run;
}

double quality(const SyntheticDisk& disk, const Setting& pick) {
  return best_seconds(disk) / disk.seconds(pick);
}

TEST(Search, PicksAtLeast95PercentOfTheGridsBestOnEveryShape) {
  for (const Shape& shape : shapes()) {
    const Searched run = search_on(shape.disk, space());
    EXPECT_GE(quality(shape.disk, run.result.best.setting), 0.95)
        << shape.name << ": " << describe(run.result.best.setting);
  }
}

TEST(Search, PicksAtLeast95PercentInTenPercentNoise) {
  constexpr unsigned kSeeds = 40;
  for (Shape shape : shapes()) {
    shape.disk.noise = 0.10;
    unsigned good = 0;
    double worst = 1;
    for (unsigned seed = 0; seed < kSeeds; ++seed) {
      const Searched run = search_on(shape.disk, space(), seed);
      const double reached = quality(shape.disk, run.result.best.setting);
      worst = std::min(worst, reached);
      good += reached >= 0.95 ? 1 : 0;
    }
    EXPECT_EQ(good, kSeeds) << shape.name << ": at worst " << worst;
  }
}

TEST(Search, TakesAtMostAFifthOfTheGridsTime) {
  for (const Shape& shape : shapes()) {
    const Searched run = search_on(shape.disk, space());
    const nanoseconds final_run = run.result.rounds.back().runtime;
    const auto grid = final_run * 3 * static_cast<std::int64_t>(space().all().size());
    EXPECT_LE(run.used * 5, grid) << shape.name;
  }
}

TEST(Search, KeepsToItsBudget) {
  SyntheticDisk disk = deep_queue();
  for (const auto set_up : {std::chrono::milliseconds(0), std::chrono::milliseconds(100)}) {
    disk.set_up = set_up;
    for (const int budget : {5, 10, 40, 75, 300}) {
      SearchOptions options;
      options.budget = seconds(budget);
      const Searched run = search_on(disk, space(), 1, options);
      EXPECT_LE(run.used, seconds(budget) * 11 / 10) << budget;
    }
  }
}

TEST(Search, EndsSoonWhenTheBudgetIsUsedUpFromTheStart) {
  SyntheticDisk disk = deep_queue();
  disk.set_up = seconds(1);
  SearchOptions options;
  options.budget = seconds(5);
  const Searched run = search_on(disk, space(), 1, options);
  // One setting to warm up, four of the lattice and one of the finalists.
  EXPECT_LE(run.used, seconds(3 + 4 * 2 + 3) * 11 / 10);
  EXPECT_GT(run.result.best.setting.block_bytes, 0u);
  EXPECT_THAT(run.result.notes, ::testing::Contains(HasSubstr("a longer --runtime")));
}

TEST(Search, KeepsToItsBudgetWhereTheFirstMeasurementsFailAndSetUpVaries) {
  SyntheticDisk disk = deep_queue();
  nanoseconds used{0};
  std::mt19937 random(1);
  const Measure quick = disk.measure(used, random);
  disk.engines[IoBackend::kIoUring].works = false;  // the one that is tried first
  int runs = 0;
  const Measure slower_and_slower = [&](const Point& point, const Limits& limits) {
    PointResult result = quick(point, limits);
    used += std::chrono::milliseconds(++runs > 3 ? 200 : 0);
    return result;
  };
  SearchOptions options;
  options.budget = seconds(75);
  (void)search(space(), options, slower_and_slower, [&used] { return used; });
  EXPECT_LE(used, options.budget * 11 / 10);
}

TEST(Search, GivesATieToTheSettingThatTakesLess) {
  const SyntheticDisk plateau = virtio_plateau();
  const Searched run = search_on(plateau, space());
  EXPECT_LE(run.result.best.setting.bytes_in_flight(), 32_MiB);
  EXPECT_EQ(run.result.best.setting.threads, 1u);
}

TEST(Search, LeavesOutAnEngineThatIsNotHereAndSaysWhy) {
  const Searched run = search_on(sandboxed(), space());
  EXPECT_NE(run.result.best.setting.engine, IoBackend::kIoUring);
  ASSERT_FALSE(run.result.notes.empty());
  EXPECT_THAT(run.result.notes.front(), HasSubstr("io_uring is left out: io_uring_setup: EPERM"));
}

TEST(Search, SaysWhyWhenNothingWorks) {
  SyntheticDisk disk;
  for (auto& [name, engine] : disk.engines) engine.works = false;
  EXPECT_THAT(message_of<IoError>([&] { (void)search_on(disk, space()); }), HasSubstr("EPERM"));
  EXPECT_THROW((void)search_on(disk, SearchSpace::usual(kEngines, 1, 4_KiB)), ConfigError);
}

TEST(Search, EndsWhenTheDiskDoesNotAnswer) {
  SyntheticDisk disk;
  nanoseconds clock{0};
  std::mt19937 random(1);
  int measurements = 0;
  const Measure measure = [&, formula = disk.measure(clock, random)](const Point& point,
                                                                     const Limits& limits) {
    if (++measurements == 3) throw DeadlineExceeded("no answer", 110);
    return formula(point, limits);
  };
  EXPECT_THROW((void)search(space(), {}, measure, [&] { return clock; }), DeadlineExceeded);
  EXPECT_EQ(measurements, 3) << "no other setting was tried, which would wait as long";
}

TEST(Search, RanksWhatThereIsWhenItDidNotComeToItsEnd) {
  SyntheticDisk disk;
  nanoseconds clock{0};
  std::mt19937 random(1);
  const Measure measure = disk.measure(clock, random);
  const Setting slow{IoBackend::kIoUring, 128_KiB, 1, 1};
  const Setting fast{IoBackend::kIoUring, 1_MiB, 32, 1};
  const Setting half{IoBackend::kIoUring, 4_MiB, 32, 1};
  std::vector<PointResult> points;
  for (const Setting& setting : {slow, fast}) {
    points.push_back(measure(setting.point(Workload::kRead), {}));
    points.push_back(measure(setting.point(Workload::kWrite), {}));
  }
  points.push_back(measure(half.point(Workload::kRead), {}));
  const auto candidates = candidates_of(points, kTrainingTraffic);
  ASSERT_EQ(candidates.size(), 3u);
  EXPECT_EQ(candidates[0].setting, fast);
  EXPECT_EQ(candidates[1].setting, slow);
  EXPECT_EQ(candidates[2].setting, half) << "written with never, so it cannot be compared";
  EXPECT_GT(candidates[2].speeds.read, 0);
}

TEST(Search, DoesNotPickASettingWhoseRequestsFail) {
  const SyntheticDisk disk = deep_queue();
  nanoseconds used{0};
  std::mt19937 random(1);
  const Measure healthy = disk.measure(used, random);
  const Measure failing_above_4_mib = [&](const Point& point, const Limits& limits) {
    PointResult result = healthy(point, limits);
    if (point.block_bytes * point.depth > 4_MiB) {
      result.write.errors = 1;
      result.first_error = "write at offset 0: EIO";
    }
    return result;
  };
  const SearchResult result = search(space(), {}, failing_above_4_mib, [&used] { return used; });
  EXPECT_LE(result.best.setting.block_bytes * result.best.setting.depth, 4_MiB);
}

TEST(Search, LetsAnInterruptionThrough) {
  class Interrupted : public std::exception {};
  const Measure interrupted = [](const Point&, const Limits&) -> PointResult {
    throw Interrupted();
  };
  EXPECT_THROW((void)search(space(), {}, interrupted, [] { return nanoseconds(0); }), Interrupted);
}

TEST(Search, GivesUpOnADiskThatDoesNotAnswerAtTheFirstRequest) {
  int asked = 0;
  const Measure hung = [&asked](const Point&, const Limits&) -> PointResult {
    ++asked;
    throw DeadlineExceeded("read of /mnt/a: no answer within 90 s", 0);
  };
  EXPECT_THROW((void)search(space(), {}, hung, [] { return nanoseconds(0); }), DeadlineExceeded);
  EXPECT_EQ(asked, 1);
}

TEST(Search, SaysWhyWhenTheDiskFailsInAnyLaterRound) {
  const SyntheticDisk disk = deep_queue();
  for (const std::string round : {"halving", "climb", "final"}) {
    nanoseconds used{0};
    std::mt19937 random(1);
    const Measure healthy = disk.measure(used, random);
    bool dead = false;
    const Measure dying = [&](const Point& point, const Limits& limits) {
      if (dead) throw IoError("write to /mnt/a: EIO", 5);
      return healthy(point, limits);
    };
    const OnRound kill = [&](const std::string& name, std::size_t, nanoseconds) {
      dead = dead || name == round;
    };
    EXPECT_THAT(message_of<IoError>([&] {
                  (void)search(
                      space(), {}, dying, [&used] { return used; }, kill);
                }),
                HasSubstr("write to /mnt/a: EIO"))
        << round;
  }
}

TEST(Search, GoesOnWithTheSettingsOfARoundThatDidNotFail) {
  const SyntheticDisk disk = deep_queue();
  nanoseconds used{0};
  std::mt19937 random(1);
  const Measure healthy = disk.measure(used, random);
  bool is_lattice = true;
  const Measure later_only_one_thread = [&](const Point& point, const Limits& limits) {
    if (!is_lattice && point.threads > 1) throw IoError("start a thread: EAGAIN", 11);
    return healthy(point, limits);
  };
  const OnRound note = [&](const std::string& name, std::size_t, nanoseconds) {
    is_lattice = name == "lattice";
  };
  const SearchResult result = search(
      space(), {}, later_only_one_thread, [&used] { return used; }, note);
  EXPECT_EQ(result.best.setting.threads, 1u);
  for (const Candidate& finalist : result.finalists) EXPECT_EQ(finalist.failure, "");
}

TEST(Search, MeasuresAgainForLongerWhatMovedNothingInItsTime) {
  const SyntheticDisk disk = deep_queue();
  nanoseconds used{0};
  std::mt19937 random(1);
  const Measure quiet = disk.measure(used, random);
  const Measure held_up = [&](const Point& point, const Limits& limits) {
    PointResult result = quiet(point, limits);
    if (limits.runtime < std::chrono::milliseconds(200)) result.read.bytes = result.write.bytes = 0;
    return result;
  };
  SearchOptions options;
  options.budget = std::chrono::milliseconds(400);
  const SearchResult result = search(space(), options, held_up, [&used] { return used; });
  EXPECT_EQ(result.best.failure, "");
  EXPECT_TRUE(std::isfinite(result.best.seconds));
}

TEST(Search, FailsWhenNothingIsMovedHoweverLongItWaits) {
  const SyntheticDisk disk = deep_queue();
  nanoseconds used{0};
  std::mt19937 random(1);
  const Measure quiet = disk.measure(used, random);
  const Measure stuck = [&](const Point& point, const Limits& limits) {
    PointResult result = quiet(point, limits);
    if (point.workload == Workload::kWrite) result.write.bytes = 0;
    return result;
  };
  EXPECT_THROW((void)search(space(), {}, stuck, [&used] { return used; }), IoError);
}

TEST(Search, TriesEveryEngineBeforeItsTimeIsUp) {
  SyntheticDisk disk = sandboxed();
  disk.engines[IoBackend::kIoUring].works = true;
  disk.set_up = std::chrono::milliseconds(100);
  SearchOptions options;
  options.budget = seconds(6);
  const Searched run = search_on(disk, space(), 1, options);
  std::set<IoBackend> tried;
  for (const Candidate& candidate : run.result.rounds.front().ranking) {
    tried.insert(candidate.setting.engine);
  }
  EXPECT_EQ(tried.size(), kEngines.size());
}

TEST(SearchSpace, HoldsMemoryAndPartsOfTheFileWithinBounds) {
  SearchSpace small = SearchSpace::usual(kEngines, 4, 8_MiB);
  small.in_flight_bytes_max = 64_MiB;
  for (const Setting& setting : small.all()) {
    EXPECT_LE(setting.bytes_in_flight(), 64_MiB);
    EXPECT_LE(setting.block_bytes * setting.threads, 8_MiB);
  }
  EXPECT_THAT(small.threads, ElementsAre(1, 2, 4));
}

TEST(SearchSpace, NeighboursAreOneStepAwayAndNeverTheSettingItself) {
  const Setting corner{IoBackend::kIoUring, 128_KiB, 1, 1};
  const auto neighbours = space().neighbours(corner);
  EXPECT_THAT(neighbours, ::testing::Not(::testing::Contains(corner)));
  EXPECT_THAT(neighbours, ::testing::Contains(Setting{IoBackend::kIoUring, 256_KiB, 1, 1}));
  EXPECT_THAT(neighbours, ::testing::Contains(Setting{IoBackend::kIoUring, 128_KiB, 2, 1}));
  EXPECT_THAT(neighbours, ::testing::Contains(Setting{IoBackend::kThreads, 128_KiB, 1, 1}));
  EXPECT_EQ(neighbours.size(), 5u);  // larger, deeper, more threads, two engines
}

/// A training step on a disk that reads weights at 8 GB/s, then reads 10 and writes 12 at 2.2 GB/s
/// together, measured in windows of 100 ms: `weights` passes of 4 GB, `optimizer` of 22 GB.
PointResult train_step_of(int weights, int optimizer) {
  PointResult result;
  for (int i = 0; i < weights * 5; ++i) {
    result.windows.push_back({.seconds = 0.1, .bytes_read = 800'000'000});
  }
  for (int i = 0; i < optimizer * 100; ++i) {
    result.windows.push_back(
        {.seconds = 0.1, .bytes_read = 100'000'000, .bytes_written = 120'000'000});
  }
  for (const Window& window : result.windows) {
    result.seconds += window.seconds;
    result.read.bytes += window.bytes_read;
    result.write.bytes += window.bytes_written;
  }
  return result;
}

TEST(TrainStep, TakesTheSameWhereverTheMeasurementEnded) {
  EXPECT_NEAR(seconds_of_train_step(train_step_of(1, 1), 1e9), 10.5, 1e-6);
  EXPECT_NEAR(seconds_of_train_step(train_step_of(2, 1), 1e9), 10.5, 1e-6) << "after the weights";
  EXPECT_NEAR(seconds_of_train_step(train_step_of(5, 1), 1e9), 10.5, 1e-6);
  EXPECT_NEAR(seconds_of_train_step(train_step_of(1, 2), 1e9), 10.5, 1e-6);
}

TEST(TrainStep, IsUnknownWhenOneDirectionIsMissing) {
  EXPECT_TRUE(std::isinf(seconds_of_train_step(train_step_of(1, 0), 1e9)));
  EXPECT_TRUE(std::isinf(seconds_of_train_step({}, 1e9)));
}

TEST(TrainStep, CountsAllBytesAlikeWhenTheWindowsTellNothing) {
  PointResult result = train_step_of(2, 1);
  result.windows.clear();
  EXPECT_NEAR(seconds_of_train_step(result, 1e9), 11.0 / 30 * 26, 1e-6);
}

TEST(DiskSpeeds, MuIsOneWhenTheShorterDirectionIsFreeAndZeroWhenTimeIsShared) {
  const DiskSpeeds duplex{.read = 6e9, .write = 3e9, .mixed_read = 3e9, .mixed_write = 3e9};
  EXPECT_DOUBLE_EQ(duplex.mu(), 1.0);
  EXPECT_DOUBLE_EQ(duplex.seconds({.read_bytes = 12e9, .written_bytes = 12e9}), 4.0);

  const DiskSpeeds shared{.read = 6e9, .write = 3e9, .mixed_read = 2e9, .mixed_write = 2e9};
  EXPECT_DOUBLE_EQ(shared.mu(), 0.0);
  EXPECT_DOUBLE_EQ(shared.seconds({.read_bytes = 12e9, .written_bytes = 12e9}), 6.0);
}

TEST(DiskSpeeds, MixingThatSlowsTheDiskDownIsNotUsed) {
  const DiskSpeeds hurt{.read = 6e9, .write = 3e9, .mixed_read = 1e9, .mixed_write = 1e9};
  EXPECT_DOUBLE_EQ(hurt.mu(), 0.0);
}

TEST(DiskSpeeds, MuGivesBackTheMixThatItWasMeasuredWith) {
  SyntheticDisk disk;
  for (const double mu : {0.0, 0.3, 1.0}) {
    disk.mu = mu;
    EXPECT_NEAR(disk.speeds({IoBackend::kIoUring, 1_MiB, 32, 1}).mu(), mu, 1e-9);
  }
}

}  // namespace
}  // namespace strata::nvme_bench::search_test
