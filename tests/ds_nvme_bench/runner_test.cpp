#include "runner.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <sstream>
#include <thread>

#include "random_bytes.h"
#include "strata/aio/backend.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "support/simulated_disk.h"
#include "support/temp_directory.h"

namespace strata::nvme_bench::runner_test {
namespace {

using namespace std::chrono_literals;
using support::TempDirectory;
using testing::HasSubstr;

constexpr Limits kShort{.runtime = 200ms, .ramp = 0ms};

/// Exactly so many bytes, however long that takes.
Limits bytes_of(std::uint64_t bytes) { return {.runtime = 60s, .bytes = bytes, .ramp = 0ms}; }

class Runner : public testing::Test {
 protected:
  [[nodiscard]] PointResult run(const Point& point, const Limits& limits,
                                const TargetFiles& files) {
    return run_point(point, limits, files, log_);
  }

  TempDirectory directory_;
  std::ostringstream log_text_;
  Logger log_{log_text_};
};

TEST_F(Runner, LeavesNoNameBehind) {
  const TargetFiles files({directory_.path()}, 4_MiB, true, {});
  EXPECT_TRUE(std::filesystem::is_empty(directory_.path()));
  EXPECT_EQ(files.bytes(), 4_MiB);
}

TEST_F(Runner, FillsTheFilesInFullAndSaysHowFarItIs) {
  std::uint64_t last = 0;
  const TargetFiles files({directory_.path(), directory_.path()}, 5_MiB, false,
                          [&](std::uint64_t written, std::uint64_t total) {
                            EXPECT_GE(written, last);
                            EXPECT_EQ(total, 5_MiB);
                            last = written;
                          });
  EXPECT_EQ(last, 5_MiB);
  for (std::size_t i = 0; i < 2; ++i) {
    std::vector<std::byte> bytes(files.files()[i].size());
    ASSERT_EQ(::pread(files.files()[i].fd(), bytes.data(), bytes.size(), 0),
              static_cast<ssize_t>(bytes.size()));
    EXPECT_EQ(first_difference(bytes, files.fill_seed(i), 0), bytes.size());
  }
}

TEST_F(Runner, CountsEveryRequestOfEveryEngineAndWorkload) {
  const TargetFiles files({directory_.path()}, 8_MiB, true, {});
  for (const IoBackend engine : {IoBackend::kAuto, IoBackend::kThreads, IoBackend::kNull}) {
    for (const Workload workload : {Workload::kRead, Workload::kWrite, Workload::kReadWrite,
                                    Workload::kRandRead, Workload::kRandWrite, Workload::kRandRw}) {
      const Point point{.workload = workload, .engine = engine, .block_bytes = 64_KiB, .depth = 8};
      const PointResult result = run(point, bytes_of(16_MiB), files);
      EXPECT_EQ(result.read.bytes + result.write.bytes, 16_MiB);
      EXPECT_EQ(result.read.requests + result.write.requests, 256u);
      EXPECT_EQ(result.read.latency.count(), result.read.requests);
      EXPECT_EQ(result.write.latency.count(), result.write.requests);
      EXPECT_EQ(result.write.requests > 0, has_writes(workload));
      EXPECT_EQ(result.read.errors + result.write.errors, 0u) << result.first_error;
      EXPECT_GT(result.seconds, 0);
    }
  }
}

TEST_F(Runner, RunsTheEngineThatIsNamed) {
  const TargetFiles files({directory_.path()}, 4_MiB, true, {});
  for (const IoBackend engine : {IoBackend::kIoUring, IoBackend::kLibaio, IoBackend::kThreads}) {
    const Point point{.workload = Workload::kRandRw,
                      .engine = engine,
                      .block_bytes = 64_KiB,
                      .depth = 4,
                      .verify = true};
    const std::string name(name_of(engine));
    try {
      check_engine(point, directory_.path(), log_);
    } catch (const IoError& error) {
      EXPECT_THAT(error.what(), HasSubstr(name));
      GTEST_SKIP() << error.what();
    }
    const PointResult result = run(point, bytes_of(8_MiB), files);
    EXPECT_THAT(result.engine, testing::StartsWith(name));
    EXPECT_GE(result.read.bytes + result.write.bytes, 8_MiB);
    EXPECT_EQ(result.read.errors + result.write.errors, 0u) << result.first_error;
  }
}

TEST_F(Runner, MovesTheBytesOfATrainingStepIn14To12) {
  const TargetFiles files({directory_.path()}, 6_MiB, true, {});
  // One unit of 8 blocks: a step moves 26 units of them.
  const Point point{.workload = Workload::kTrainStep,
                    .engine = IoBackend::kNull,
                    .block_bytes = 64_KiB,
                    .depth = 8};
  const PointResult result = run(point, bytes_of(26 * 8 * 64_KiB * 5), files);
  EXPECT_EQ(result.read.bytes, 14 * 8 * 64_KiB * 5);
  EXPECT_EQ(result.write.bytes, 12 * 8 * 64_KiB * 5);
}

TEST_F(Runner, DoesNotCountPreparingAWriteAsTheDisksTime) {
  const TargetFiles files({directory_.path()}, 64_MiB, true, {});
  const Point point{.workload = Workload::kWrite,
                    .engine = IoBackend::kNull,
                    .block_bytes = 16_MiB,
                    .depth = 1,
                    .verify = true};  // a block is filled and summed, and then moved at once
  const PointResult result = run(point, bytes_of(256_MiB), files);
  const double of_a_write = result.seconds / static_cast<double>(result.write.requests);
  EXPECT_LT(std::chrono::duration<double>(result.write.latency.min()).count(), of_a_write / 2);
}

TEST_F(Runner, GivesEveryThreadAPartOfEveryFile) {
  const TargetFiles files({directory_.path(), directory_.path()}, 8_MiB, true, {});
  const Point point{.workload = Workload::kRandRw,
                    .block_bytes = 64_KiB,
                    .depth = 4,
                    .threads = 3,
                    .verify = true};
  const PointResult result = run(point, bytes_of(48_MiB), files);
  EXPECT_GE(result.read.bytes + result.write.bytes, 48_MiB);
  EXPECT_EQ(result.read.errors, 0u) << result.first_error;
}

TEST_F(Runner, EndsByTimeAndCutsItIntoWindows) {
  const TargetFiles files({directory_.path()}, 4_MiB, true, {});
  const Point point{.engine = IoBackend::kNull, .block_bytes = 64_KiB};
  const PointResult result = run(point, {.runtime = 350ms, .ramp = 50ms}, files);
  EXPECT_GE(result.seconds, 0.34);
  EXPECT_LT(result.seconds, 30);
  EXPECT_GE(result.windows.size(), 1u);
  EXPECT_LE(result.windows.size(), 5u) << "in 350 ms";
  double seconds = 0;
  std::uint64_t bytes = 0;
  for (const Window& window : result.windows) {
    seconds += window.seconds;
    bytes += window.bytes_read;
  }
  EXPECT_GE(seconds, 0.34);
  EXPECT_LE(bytes, result.read.bytes);
  EXPECT_GT(bytes, 0u);
}

TEST_F(Runner, EndsWithWhatItHasWhenItIsTold) {
  const TargetFiles files({directory_.path()}, 4_MiB, true, {});
  int windows = 0;
  const PointResult result =
      run_point({.engine = IoBackend::kNull, .block_bytes = 64_KiB}, {.runtime = 60s, .ramp = 0ms},
                files, log_, [&](const Window&) { return ++windows < 2; });
  EXPECT_EQ(windows, 2);
  EXPECT_LT(result.seconds, 10);
  EXPECT_GT(result.read.requests, 0u);
}

TEST_F(Runner, FindsAFlippedByteAndSaysWhere) {
  const TargetFiles files({directory_.path()}, 4_MiB, false, {});
  const aio::IoFile& file = files.files().front();
  constexpr off_t kAt = 1'234'567;
  std::byte byte{};
  ASSERT_EQ(::pread(file.fd(), &byte, 1, kAt), 1);
  byte ^= std::byte{0x40};
  ASSERT_EQ(::pwrite(file.fd(), &byte, 1, kAt), 1);

  const Point point{.block_bytes = 64_KiB, .depth = 4, .verify = true};
  const PointResult result = run(point, bytes_of(4_MiB), files);
  EXPECT_EQ(result.read.errors, 1u);
  EXPECT_THAT(result.first_error, HasSubstr(file.path().string()));
  EXPECT_THAT(result.first_error, HasSubstr("offset " + std::to_string(kAt / 65536 * 65536)));
  EXPECT_THAT(result.first_error, HasSubstr("byte " + std::to_string(kAt % 65536)));
  EXPECT_THAT(result.first_error, HasSubstr("expected 0x"));
}

TEST_F(Runner, VerifiesWhatItWroteAcrossMeasurements) {
  const TargetFiles files({directory_.path()}, 2_MiB, true, {});
  for (const Workload workload : {Workload::kRandRw, Workload::kRead, Workload::kTrainStep}) {
    const Point point{.workload = workload, .block_bytes = 16_KiB, .depth = 8, .verify = true};
    const PointResult result = run(point, bytes_of(8_MiB), files);
    EXPECT_EQ(result.read.errors, 0u) << result.first_error;
    EXPECT_GT(result.read.requests, 0u);
  }
}

TEST_F(Runner, MeasuresAFileSystemInMemory) {
  const std::filesystem::path memory = "/dev/shm";
  if (::access(memory.c_str(), W_OK) != 0) GTEST_SKIP() << "no tmpfs at /dev/shm";
  const TempDirectory in_memory(memory);
  const TargetFiles files({in_memory.path()}, 4_MiB, true, {});
  const PointResult result =
      run({.workload = Workload::kRandRw, .block_bytes = 4_KiB, .depth = 4, .verify = true},
          bytes_of(1_MiB), files);
  EXPECT_GT(result.read.requests, 0u);
  EXPECT_EQ(result.read.errors + result.write.errors, 0u) << result.first_error;
}

TEST_F(Runner, MeasuresThroughThePageCache) {
  const TargetFiles files({directory_.path()}, 4_MiB, true, {});
  const Point point{.workload = Workload::kReadWrite,
                    .block_bytes = 64_KiB,
                    .depth = 4,
                    .direct = false,
                    .verify = true};
  EXPECT_GT(run(point, bytes_of(8_MiB), files).read.requests, 0u);
  EXPECT_EQ(::fcntl(files.files()[0].fd(), F_GETFL) & O_DIRECT, 0);
  (void)run(Point{.block_bytes = 64_KiB}, bytes_of(1_MiB), files);
  if (files.files()[0].direct()) {
    EXPECT_NE(::fcntl(files.files()[0].fd(), F_GETFL) & O_DIRECT, 0);
  }
}

TEST_F(Runner, CountsFailedRequestsAndGoesOn) {
  const TargetFiles files({directory_.path()}, 4_MiB, true, {});
  ASSERT_EQ(::ftruncate(files.files()[0].fd(), 1_MiB), 0);  // the rest cannot be read any more
  const PointResult result = run({.block_bytes = 64_KiB, .depth = 4}, bytes_of(2_MiB), files);
  EXPECT_GT(result.read.errors, 0u);
  EXPECT_GT(result.read.requests, 0u);
  EXPECT_THAT(result.first_error, HasSubstr("end of file"));
}

/// A disk that answers at first, and then leaves one request in a hundred unanswered.
std::unique_ptr<aio::Backend> disk_that_falls_silent() {
  return aio::make_simulated_backend({.depth = 4, .chances = {{aio::Fault::stuck(), 0.01}}});
}

TEST_F(Runner, GivesUpADiskThatDoesNotAnswerAndKeepsWhatItHas) {
  const TargetFiles files({directory_.path()}, 4_MiB, true, {});
  for (const std::uint32_t threads : {1u, 3u}) {
    const Point point{.block_bytes = 64_KiB, .depth = 4, .threads = threads};
    const PointResult result = run_point(point, {.runtime = 300s, .ramp = 0ms, .timeout = 200ms},
                                         files, log_, {}, disk_that_falls_silent);
    EXPECT_THAT(result.unanswered, HasSubstr("deadline passed"));
    EXPECT_THAT(result.first_error, HasSubstr("read of "));
    EXPECT_GT(result.read.requests, 0u);
    EXPECT_GT(result.read.errors, 0u);
    EXPECT_LT(result.seconds, 60);
  }
}

/// Acts like libaio on a frozen file system: its system call takes the requests when it pleases.
class HeldUpBackend final : public aio::Backend {
 public:
  [[nodiscard]] std::string_view name() const noexcept override { return "held up"; }
  [[nodiscard]] std::uint32_t capacity() const noexcept override { return 4; }
  [[nodiscard]] std::size_t enqueue(std::span<const aio::Request> /*requests*/) override {
    while (true) std::this_thread::sleep_for(1h);
  }
  [[nodiscard]] std::size_t reap(std::span<aio::Completion> /*completions*/,
                                 std::chrono::nanoseconds timeout) override {
    std::this_thread::sleep_for(timeout);
    return 0;
  }
  void wake() noexcept override {}
};

TEST_F(Runner, EndsTheProcessWhenTheKernelDoesNotGiveAThreadBack) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto measure = [&] {
    const TargetFiles files({directory_.path()}, 4_MiB, true, {});
    (void)run_point({.block_bytes = 64_KiB, .depth = 4},
                    {.runtime = 100ms, .ramp = 0ms, .timeout = 100ms}, files, log_, {},
                    [] { return std::make_unique<HeldUpBackend>(); });
  };
  EXPECT_EXIT(measure(), testing::ExitedWithCode(1),
              "held up in a system call for more than 0.100 s");
}

TEST_F(Runner, IsHeardWhileTheLastRequestsDoNotComeHome) {
  const TargetFiles files({directory_.path()}, 4_MiB, true, {});
  int windows = 0;
  const PointResult result = run_point(
      {.block_bytes = 64_KiB, .depth = 4}, {.runtime = 100ms, .ramp = 0ms, .timeout = 1s}, files,
      log_, [&](const Window&) { return ++windows > 0; },
      [] {
        return aio::make_simulated_backend({.depth = 4, .chances = {{aio::Fault::stuck(), 1}}});
      });
  EXPECT_THAT(result.unanswered, HasSubstr("deadline passed"));
  EXPECT_EQ(result.read.requests, 0u);
  EXPECT_GT(windows, 3);
}

TEST_F(Runner, RefusesPointsThatCannotBeRun) {
  const TargetFiles files({directory_.path()}, 4_MiB, true, {});
  EXPECT_THROW((void)run({.block_bytes = 8_MiB}, kShort, files), ConfigError);
  EXPECT_THROW((void)run({.block_bytes = 2_MiB, .threads = 3}, kShort, files), ConfigError);
  EXPECT_THROW((void)run({.block_bytes = 100}, kShort, files), ConfigError);
  EXPECT_THROW((void)run({.depth = 0}, kShort, files), ConfigError);
}

TEST_F(Runner, RefusesDirectoriesThatTakeNoFile) {
  EXPECT_THROW(TargetFiles({}, 1_MiB, true, {}), ConfigError);
  EXPECT_THROW(TargetFiles({directory_.path() / "none"}, 1_MiB, true, {}), IoError);
  EXPECT_THROW(TargetFiles({directory_.path()}, std::uint64_t{1} << 60, true, {}), IoError);
}

}  // namespace
}  // namespace strata::nvme_bench::runner_test
