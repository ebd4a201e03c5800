#include "strata/aio/path_meter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "aio/disk_tree.h"
#include "aio/scripted_queue_fixture.h"
#include "strata/aio/io_channel.h"
#include "strata/aio/path_trial.h"
#include "support/simulated_disk.h"

namespace strata::aio::path_meter_test {
namespace {

using std::chrono::milliseconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

Time at(int milliseconds_since_start) { return Time{} + milliseconds(milliseconds_since_start); }

// ---- the meter, with a made-up clock ---------------------------------------------------------

TEST(PathMeter, CountsTheTimeInWhichThereWasSomethingToDo) {
  PathMeter meter;
  meter.begin(OpKind::kRead, at(0));
  meter.begin(OpKind::kRead, at(10));
  meter.end(OpKind::kRead, 100, at(20));
  meter.end(OpKind::kRead, 100, at(30));
  meter.begin(OpKind::kRead, at(1000));  // idle in between
  meter.end(OpKind::kRead, 100, at(1010));
  const PathTotals totals = meter.totals();
  EXPECT_EQ(totals.bytes_of(OpKind::kRead), 300u);
  EXPECT_EQ(totals.busy_of(OpKind::kRead), milliseconds(40));
  EXPECT_EQ(totals.busy_of(OpKind::kWrite), milliseconds(0));
}

TEST(PathMeter, KeepsReadsAndWritesApart) {
  PathMeter meter;
  meter.begin(OpKind::kRead, at(0));
  meter.begin(OpKind::kWrite, at(5));
  meter.end(OpKind::kRead, 1000, at(10));
  meter.end(OpKind::kWrite, 500, at(25));
  const PathBandwidth bandwidth = bandwidth_of(meter.totals());
  EXPECT_DOUBLE_EQ(bandwidth.read, 1000 / 0.010);
  EXPECT_DOUBLE_EQ(bandwidth.write, 500 / 0.020);
}

TEST(PathMeter, KnowsNoBandwidthOfADirectionThatWasNeverBusy) {
  EXPECT_EQ(bandwidth_of(PathTotals{}).combined(), 0);
  EXPECT_EQ((PathBandwidth{.read = 1e9, .write = 0}.combined()), 0);
}

// ---- in a queue ------------------------------------------------------------------------------

class MeteredQueue : public ScriptedQueue {};

TEST_F(MeteredQueue, CountsTheBytesOfEveryRequestOfAnOperation) {
  PathMeter meter;
  script.faults = {Fault::none(), Fault::error(EINTR), Fault::shortened_to(4096)};
  start();
  Operation operation = read_of(0, 4);
  operation.meter = &meter;
  queue->submit(operation).wait();
  queue->submit(read_of(4, 2)).wait();  // a transfer of another path
  const PathTotals totals = meter.totals();
  EXPECT_EQ(totals.bytes_of(OpKind::kRead), 4 * kBlockBytes);
  EXPECT_GT(totals.busy_of(OpKind::kRead).count(), 0);
  EXPECT_EQ(totals.bytes_of(OpKind::kWrite), 0u);
}

TEST_F(MeteredQueue, IsNotBusyAfterARequestThatFailed) {
  PathMeter meter;
  script.faults = {Fault::error(EIO)};
  start();
  Operation operation = write_of(0, 1);
  operation.meter = &meter;
  IoTicket failed = queue->submit(operation);
  EXPECT_THROW(failed.wait(), IoError);
  const auto busy = meter.totals().busy_of(OpKind::kWrite);
  meter.begin(OpKind::kWrite, Time{});
  meter.end(OpKind::kWrite, 0, Time{} + milliseconds(1));
  EXPECT_EQ(meter.totals().busy_of(OpKind::kWrite), busy + milliseconds(1));
}

// ---- the trial -------------------------------------------------------------------------------

class PathTrial : public testing::Test {
 protected:
  DiskTree first_, second_;  // two directories
  std::ostringstream log_text_;
  Logger log_{log_text_};
  IoQueue queue_{{.backend = IoBackend::kThreads}, first_.root(), log_};
};

TEST_F(PathTrial, MeasuresEachOfSeveralDirectoriesAndSaysSoInOneLine) {
  log_text_.str("");
  const std::vector<std::filesystem::path> directories{first_.root(), second_.root()};
  const auto bandwidths = try_paths(queue_, directories, log_);
  ASSERT_THAT(bandwidths, SizeIs(2));
  for (const PathBandwidth& bandwidth : bandwidths) {
    EXPECT_GT(bandwidth.read, 0);
    EXPECT_GT(bandwidth.write, 0);
  }
  const std::string text = log_text_.str();
  EXPECT_THAT(text, AllOf(HasSubstr(first_.root().string() + " reads "),
                          HasSubstr(second_.root().string() + " reads "), HasSubstr("GB/s")));
  EXPECT_EQ(std::ranges::count(text, '\n'), 1);
  EXPECT_THAT(text, HasSubstr("one disk that holds 2 of the directories"));
  EXPECT_TRUE(std::filesystem::is_empty(first_.root()));
}

TEST_F(PathTrial, DoesNotTryADirectoryThatIsAlone) {
  log_text_.str("");
  const std::vector<std::filesystem::path> directories{first_.root()};
  const auto bandwidths = try_paths(queue_, directories, log_);
  ASSERT_THAT(bandwidths, SizeIs(1));
  EXPECT_EQ(bandwidths[0].combined(), 0);
  EXPECT_EQ(queue_.statistics().requests, 0u);
  EXPECT_THAT(log_text_.str(), IsEmpty());
}

TEST_F(PathTrial, GoesOnWithoutResultsWhenADirectoryCannotBeTried) {
  const std::vector<std::filesystem::path> directories{first_.root(), first_.root() / "missing"};
  const auto bandwidths = try_paths(queue_, directories, log_);
  ASSERT_THAT(bandwidths, SizeIs(2));
  for (const PathBandwidth& bandwidth : bandwidths) EXPECT_EQ(bandwidth.combined(), 0);
  EXPECT_THAT(log_text_.str(), AllOf(HasSubstr("not tried"), HasSubstr("missing")));
}

TEST_F(PathTrial, FindsTheBandwidthOfASimulatedDiskToThePercent) {
  ManualClock clock;
  const DiskOptions disk{.latency_min = milliseconds(0),
                         .latency_max = milliseconds(0),
                         .read_bytes_per_second = 2e8,
                         .write_bytes_per_second = 3e8};
  IoChannel channel({.clock = &clock}, make_backend(std::make_shared<SimulatedDisk>(disk, &clock)),
                    log_);
  const std::vector<std::filesystem::path> directories{first_.root(), second_.root()};
  const auto bandwidths = try_paths(channel, directories, log_, clock);
  ASSERT_THAT(bandwidths, SizeIs(2));
  for (const PathBandwidth& half : bandwidths) {  // both are on one disk
    EXPECT_NEAR(half.read, 2e8 / 2, 1e6);
    EXPECT_NEAR(half.write, 3e8 / 2, 1.5e6);
  }
}

}  // namespace
}  // namespace strata::aio::path_meter_test
