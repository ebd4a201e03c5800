#include "strata/aio/path_speed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "aio/disk_tree.h"
#include "strata/aio/io_channel.h"
#include "strata/base/error.h"
#include "support/message_of.h"
#include "support/simulated_disk.h"

namespace strata::aio::path_speed_test {
namespace {

using std::chrono::milliseconds;
using testing::AllOf;
using testing::HasSubstr;

class PathSpeed : public testing::Test {
 protected:
  /// Measures in simulated time.
  PathSpeeds measure(
      const DiskOptions& disk, const std::vector<std::filesystem::path>& directories,
      const std::function<void()>& check = [] {}, const PathLoad& load = kLoad) {
    ManualClock clock;
    IoChannel channel({.clock = &clock},
                      make_backend(std::make_shared<SimulatedDisk>(disk, &clock)), log_);
    return measure_paths(channel, directories, load, check, clock);
  }

  static constexpr PathLoad kLoad{.file_bytes = 16_MiB,
                                  .operation_bytes = 64_KiB,
                                  .operations = 16,
                                  .turn_bytes = 64_KiB,
                                  .time = milliseconds(200)};
  DiskTree first_, second_;  // two directories
  std::ostringstream log_text_;
  Logger log_{log_text_};
};

DiskOptions disk_of(double read, double write, double overlap) {
  return {.latency_min = milliseconds(0),
          .latency_max = milliseconds(0),
          .read_bytes_per_second = read,
          .write_bytes_per_second = write,
          .overlap = overlap};
}

TEST_F(PathSpeed, FindsSpeedsAndOverlapOfASimulatedDisk) {
  for (const double overlap : {0.0, 0.5, 1.0}) {
    const PathSpeeds speeds = measure(disk_of(2e8, 3e8, overlap), {first_.root()});
    EXPECT_NEAR(speeds.read, 2e8, 2e6);
    EXPECT_NEAR(speeds.write, 3e8, 3e6);
    EXPECT_NEAR(speeds.overlap, overlap, 0.05);
  }
}

TEST_F(PathSpeed, TurnsLongerThanTheQueueOverlapOnlyWhereTheyMeet) {
  PathLoad load = kLoad;
  load.turn_bytes = 16 * load.operations * load.operation_bytes;
  const PathSpeeds speeds = measure(
      disk_of(2e8, 2e8, /*overlap=*/1), {first_.root()}, [] {}, load);
  EXPECT_NEAR(speeds.read, 2e8, 2e6);
  EXPECT_GT(speeds.overlap, 0);
  EXPECT_LT(speeds.overlap, 0.15);
}

TEST_F(PathSpeed, ADiskThatNeedsNoCoreIsAsFastBesideComputation) {
  PathLoad load = kLoad;
  load.computing_threads = 2;
  const PathSpeeds speeds = measure(
      disk_of(2e8, 3e8, 0), {first_.root()}, [] {}, load);
  EXPECT_NEAR(speeds.beside_compute, 1, 0.01);
}

TEST_F(PathSpeed, ADiskThatFillsOnlyAPartOfTheFileInTimeIsMeasuredInThatPart) {
  const PathSpeeds speeds = measure(disk_of(4e6, 5e6, 0), {first_.root()});
  EXPECT_NEAR(speeds.read, 4e6, 4e4);
  EXPECT_NEAR(speeds.write, 5e6, 5e4);
}

TEST_F(PathSpeed, SeveralDirectoriesAreMeasuredTogether) {
  const PathSpeeds speeds = measure(disk_of(2e8, 3e8, 0), {first_.root(), second_.root()});
  EXPECT_NEAR(speeds.read, 2e8, 2e6);  // both are on the one simulated disk
  EXPECT_NEAR(speeds.write, 3e8, 3e6);
}

TEST_F(PathSpeed, LeavesNothingBehindWhenItIsInterrupted) {
  int calls = 0;
  const auto interrupt = [&] {
    if (++calls == 20) throw std::runtime_error("interrupted");
  };
  EXPECT_THROW((void)measure(disk_of(2e8, 3e8, 0), {first_.root()}, interrupt), std::runtime_error);
  EXPECT_TRUE(std::filesystem::is_empty(first_.root()));
}

TEST_F(PathSpeed, RefusesADirectoryThatIsNotThereOrHasNoRoomForTheFile) {
  IoChannel channel({.backend = IoBackend::kThreads}, first_.root(), log_);
  const auto refusal = [&](const std::filesystem::path& directory, const PathLoad& load) {
    const std::vector<std::filesystem::path> directories{directory};
    return support::message_of<Error>([&] { (void)measure_paths(channel, directories, load); });
  };
  EXPECT_THAT(refusal(first_.root() / "missing", kLoad), HasSubstr("missing"));
  PathLoad huge = kLoad;
  huge.file_bytes = std::uint64_t{1} << 60;
  EXPECT_THAT(refusal(first_.root(), huge),
              AllOf(HasSubstr(first_.root().string()), HasSubstr(format_bytes(huge.file_bytes))));
  PathLoad crowded = kLoad;
  crowded.file_bytes = 1_MiB;
  EXPECT_THAT(refusal(first_.root(), crowded), HasSubstr("room for them twice"));
  PathLoad torn = kLoad;
  torn.turn_bytes += 1;
  EXPECT_THAT(refusal(first_.root(), torn), HasSubstr("whole transfers"));
  EXPECT_TRUE(std::filesystem::is_empty(first_.root()));
}

}  // namespace
}  // namespace strata::aio::path_speed_test
