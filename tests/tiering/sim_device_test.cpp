#include "support/sim_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "support/message_of.h"

namespace strata::support::sim_device_test {
namespace {

using support::message_of;
using namespace std::chrono_literals;
using testing::AllOf;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;
using tiering::DeviceMemory;
using tiering::DeviceSpan;
using tiering::Event;
using tiering::StreamRole;

constexpr auto kSoon = 20s;  // a bound for what must come, never a time that a test waits for
constexpr auto kUpload = StreamRole::kUpload;
constexpr auto kCompute = StreamRole::kCompute;
constexpr auto kDrain = StreamRole::kDrain;
constexpr std::uint64_t kBytes = 8192;

std::vector<std::byte> bytes_of(std::uint64_t count, int value) {
  return std::vector<std::byte>(count, static_cast<std::byte>(value));
}

std::vector<std::string> texts_of(const std::vector<Race>& races) {
  std::vector<std::string> texts;
  for (const Race& race : races) texts.push_back(race.text);
  return texts;
}

auto is_race(const std::string& first, const std::string& second) {
  return AllOf(Field(&Race::first, first), Field(&Race::second, second));
}

/// Carries units through two regions, two gradient buckets and two slots of host memory each way,
/// with every wait that it needs and none besides: the engine's schedule in small. A unit's
/// gradients are its weights plus one.
class Pipeline {
 public:
  explicit Pipeline(SimDevice& device) : device_(device) {
    for (Lane& lane : lanes_) {
      lane.region = device.allocate(kBytes, "region");
      lane.bucket = device.allocate(kBytes, "bucket");
    }
  }

  /// Returns how many units came back with other bytes than they should.
  int run(int units) {
    int wrong = 0;
    for (int unit = 0; unit < units + 2; ++unit) {
      Lane& lane = lanes_[unit % 2];
      if (unit < units) {
        upload(lane, unit);
        compute(lane);
      }
      lane.drained.synchronize(kSoon);
      if (unit >= 2 && !has_gradients_of(lane, unit - 2)) ++wrong;
      if (unit < units) drain(lane);
    }
    return wrong;
  }

 private:
  struct Lane {
    DeviceMemory region, bucket;
    std::vector<std::byte> up = std::vector<std::byte>(kBytes);
    std::vector<std::byte> down = std::vector<std::byte>(kBytes);
    Event uploaded, computed, drained;
  };

  void upload(Lane& lane, int unit) {
    lane.uploaded.synchronize(kSoon);
    device_.host_access("fetch", {}, {range_of(lane.up)},
                        [&] { std::ranges::fill(lane.up, static_cast<std::byte>(unit)); });
    device_.wait(kUpload, lane.computed);
    device_.copy_to_device(kUpload, lane.up, lane.region.span());
    lane.uploaded = device_.record(kUpload);
  }

  void compute(Lane& lane) {
    device_.wait(kCompute, lane.uploaded);
    device_.wait(kCompute, lane.drained);
    const auto weights = device_.touchable(lane.region.span());
    const auto gradients = device_.touchable(lane.bucket.span());
    device_.run_on(kCompute, "compute", {range_of(lane.region.span())},
                   {range_of(lane.bucket.span())}, [this, weights, gradients] {
                     const auto bytes = device_.lock_bytes();
                     std::ranges::transform(weights, gradients.begin(), [](std::byte weight) {
                       return static_cast<std::byte>(std::to_integer<int>(weight) + 1);
                     });
                   });
    lane.computed = device_.record(kCompute);
  }

  void drain(Lane& lane) {
    device_.wait(kDrain, lane.computed);
    device_.copy_to_host(kDrain, lane.bucket.span(), lane.down);
    lane.drained = device_.record(kDrain);
  }

  bool has_gradients_of(Lane& lane, int unit) {
    bool right = false;
    device_.host_access("flush", {range_of(lane.down)}, {},
                        [&] { right = lane.down == bytes_of(kBytes, unit + 1); });
    return right;
  }

  SimDevice& device_;
  Lane lanes_[2];
};

struct PipelineResult {
  int wrong = 0;
  std::vector<std::string> races;
  std::vector<std::string> waits;
};

PipelineResult run_pipeline(const SimDeviceOptions& options, int units = 6) {
  PipelineResult result;
  SimDevice device(options);
  {
    Pipeline pipeline(device);
    result.wrong = pipeline.run(units);
  }
  result.races = texts_of(device.races());
  result.waits = device.waits();
  return result;
}

TEST(SimDevice, ReportsNothingForAPipelineWithAllOfItsWaits) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const auto result = run_pipeline({.seed = seed, .max_delay = 300us});
    EXPECT_EQ(result.wrong, 0) << "seed " << seed;
    EXPECT_THAT(result.races, IsEmpty()) << "seed " << seed;
    EXPECT_THAT(run_pipeline({.seed = seed}).races, IsEmpty());
  }
}

TEST(SimDevice, ReportsEveryPipelineThatLacksOneOfItsWaits) {
  const auto complete = run_pipeline({});
  ASSERT_GT(complete.waits.size(), 20u);
  for (std::size_t one = 1; one <= complete.waits.size(); ++one) {
    const auto result = run_pipeline({.seed = one, .max_delay = 50us, .suppress_wait = one});
    EXPECT_FALSE(result.races.empty()) << "without wait " << one << ": " << complete.waits[one - 1];
  }
}

TEST(SimDevice, ReportsTheSameInEveryRunWhateverTheDelays) {
  const auto first = run_pipeline({.seed = 1, .suppress_wait = 3});
  EXPECT_FALSE(first.races.empty());
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const SimDeviceOptions options{.seed = seed, .max_delay = 200us, .suppress_wait = 3};
    EXPECT_EQ(run_pipeline(options).races, first.races) << "seed " << seed;
    EXPECT_EQ(run_pipeline(options).waits, first.waits) << "seed " << seed;
  }
}

TEST(SimDevice, ReportsAMissingWaitForAnUploadAlsoWhereTheValuesAreRight) {
  SimDevice device;
  const DeviceMemory region = device.allocate(kBytes, "unit 3");
  const auto weights = bytes_of(kBytes, 7);
  device.copy_to_device(kUpload, weights, region.span());
  device.settle(kUpload, kSoon);
  std::atomic<bool> right = false;
  device.run_on(kCompute, "forward", {range_of(region.span())}, {},
                [&] { right = std::ranges::equal(device.touchable(region.span()), weights); });
  device.record(kCompute).synchronize(kSoon);
  EXPECT_TRUE(right);
  ASSERT_THAT(device.races(), ElementsAre(is_race("copy_to_device #1", "forward #2")));
  EXPECT_EQ(device.races()[0].text,
            "'copy_to_device #1' of stream upload writes and 'forward #2' of stream compute reads "
            "bytes 0 to 8192 of 'unit 3', and no event orders them");
  device.record(kUpload).synchronize(kSoon);
}

TEST(SimDevice, ShowsPoisonToAComputationThatDoesNotWaitForItsUpload) {
  SimDevice device({.hang_operation = 1});
  const DeviceMemory region = device.allocate(kBytes, "region");
  const auto weights = bytes_of(kBytes, 7);
  device.copy_to_device(kUpload, weights, region.span());
  std::atomic<bool> poisoned = false;
  device.run_on(kCompute, "forward", {range_of(region.span())}, {}, [&] {
    poisoned = std::ranges::all_of(device.touchable(region.span()),
                                   [](std::byte one) { return one == ShadowMemory::kPoison; });
  });
  device.record(kCompute).synchronize(kSoon);
  EXPECT_TRUE(poisoned);
}

TEST(SimDevice, ReportsAHostThatFillsASlotBeforeItsUploadIsDone) {
  SimDevice device;
  const DeviceMemory region = device.allocate(kBytes, "region");
  auto slot = bytes_of(kBytes, 1);
  const auto registration = device.register_host(slot, "slot 0");
  device.copy_to_device(kUpload, slot, region.span());
  device.settle(kUpload, kSoon);
  device.host_access("fetch", {}, {range_of(slot)}, [&] { std::ranges::fill(slot, std::byte{2}); });
  ASSERT_THAT(device.races(), ElementsAre(is_race("copy_to_device #1", "fetch")));
  EXPECT_THAT(device.races()[0].text, HasSubstr("'slot 0'"));
  device.record(kUpload).synchronize(kSoon);
}

TEST(SimDevice, TakesAnEventThatIsDoneForAWaitOfTheHost) {
  SimDevice device;
  const DeviceMemory region = device.allocate(kBytes, "region");
  auto slot = bytes_of(kBytes, 1);
  device.copy_to_device(kUpload, slot, region.span());
  const Event uploaded = device.record(kUpload);
  while (!uploaded.is_done()) std::this_thread::yield();
  device.host_access("fetch", {}, {range_of(slot)}, [&] { std::ranges::fill(slot, std::byte{2}); });
  EXPECT_THAT(device.races(), IsEmpty());
  EXPECT_THAT(device.waits(), ElementsAre("the host for upload after #1"));
}

TEST(SimDevice, CountsNoWaitThatAddsNoOrder) {
  SimDevice device;
  const DeviceMemory region = device.allocate(kBytes, "region");
  device.fill(kUpload, region.span(), std::byte{1});
  const Event filled = device.record(kUpload);
  device.wait(kUpload, filled);
  filled.synchronize(kSoon);
  filled.synchronize(kSoon);
  device.wait(kCompute, filled);
  EXPECT_THAT(device.waits(), ElementsAre("the host for upload after #1"));
}

TEST(SimDevice, OrdersNothingByAnEventThatWasRecordedTooEarly) {
  SimDevice device;
  const DeviceMemory memory = device.allocate(kBytes, "memory");
  const Event before = device.record(kUpload);
  device.fill(kUpload, memory.span(), std::byte{1});
  device.wait(kCompute, before);
  device.fill(kCompute, memory.span(), std::byte{2});
  EXPECT_THAT(device.races(), ElementsAre(is_race("fill #1", "fill #2")));
  for (const StreamRole stream : {kUpload, kCompute}) device.record(stream).synchronize(kSoon);
}

TEST(SimDevice, OrdersByEventsAcrossAThirdStream) {
  SimDevice device;
  const DeviceMemory memory = device.allocate(kBytes, "memory");
  device.fill(kUpload, memory.span(), std::byte{1});
  device.wait(StreamRole::kCollectives, device.record(kUpload));
  device.wait(kCompute, device.record(StreamRole::kCollectives));
  device.fill(kCompute, memory.span(), std::byte{2});
  device.record(kCompute).synchronize(kSoon);
  EXPECT_THAT(device.races(), IsEmpty());
}

TEST(SimDevice, ReportsOverlappingBytesAndNoOthers) {
  SimDevice device;
  const DeviceMemory memory = device.allocate(300, "slab");
  const DeviceSpan slab = memory.span();
  device.fill(kUpload, slab.subspan(0, 100), std::byte{1});
  device.fill(kCompute, slab.subspan(100, 100), std::byte{2});
  EXPECT_THAT(device.races(), IsEmpty()) << "they only touch";
  device.fill(kDrain, slab.subspan(50, 51), std::byte{3});
  EXPECT_THAT(texts_of(device.races()),
              ElementsAre("'fill #1' of stream upload writes and 'fill #3' of stream drain writes "
                          "bytes 50 to 100 of 'slab', and no event orders them",
                          "'fill #2' of stream compute writes and 'fill #3' of stream drain writes "
                          "bytes 100 to 101 of 'slab', and no event orders them"));
  for (const StreamRole stream : {kUpload, kCompute, kDrain}) {
    device.record(stream).synchronize(kSoon);
  }
}

TEST(SimDevice, ReportsEveryPairAndNotOnlyTheNearest) {
  constexpr auto kOther = StreamRole::kCollectives;
  SimDevice device;
  const DeviceMemory memory = device.allocate(kBytes, "memory");
  const auto source = bytes_of(kBytes, 1);
  auto first_copy = bytes_of(kBytes, 0), second_copy = bytes_of(kBytes, 0);
  device.copy_to_device(kUpload, source, memory.span());
  const Event uploaded = device.record(kUpload);
  device.wait(kDrain, uploaded);
  device.wait(kOther, uploaded);
  device.copy_to_host(kDrain, memory.span(), first_copy);
  device.copy_to_host(kOther, memory.span(), second_copy);
  EXPECT_THAT(device.races(), IsEmpty()) << "two reads are no race";
  device.fill(kCompute, memory.span(), std::byte{2});
  EXPECT_THAT(device.races(), ElementsAre(is_race("copy_to_device #1", "fill #4"),
                                          is_race("copy_to_host #2", "fill #4"),
                                          is_race("copy_to_host #3", "fill #4")));
  for (const StreamRole stream : {kCompute, kDrain, kOther}) {
    device.record(stream).synchronize(kSoon);
  }
}

TEST(SimDevice, ReportsAPairOnceHoweverManyPiecesOfMemoryItShares) {
  SimDevice device;
  const DeviceMemory memory = device.allocate(300, "slab");
  device.fill(kUpload, memory.span(), std::byte{1});
  device.fill(kUpload, memory.span().subspan(100, 100), std::byte{2});
  device.fill(kCompute, memory.span(), std::byte{3});
  EXPECT_THAT(device.races(),
              ElementsAre(is_race("fill #1", "fill #3"), is_race("fill #2", "fill #3")));
  for (const StreamRole stream : {kUpload, kCompute}) device.record(stream).synchronize(kSoon);
}

TEST(SimDevice, ReportsMemoryThatIsGivenBackWhileAStreamUsesIt) {
  SimDevice device;
  {
    const DeviceMemory memory = device.allocate(kBytes, "memory");
    auto slot = bytes_of(kBytes, 0);
    const auto registration = device.register_host(slot, "slot");
    device.copy_to_host(kDrain, memory.span(), slot);
    device.settle(kDrain, kSoon);
  }
  EXPECT_THAT(device.races(), ElementsAre(is_race("copy_to_host #1", "end of registration"),
                                          is_race("copy_to_host #1", "free")));
}

TEST(SimDevice, FreesInTheOrderOfAStreamWhatTheStreamStillUses) {
  SimDevice device;
  DeviceMemory memory = device.allocate(kBytes, "temporary");
  const DeviceSpan span = memory.span();
  device.fill(kCompute, span, std::byte{1});
  device.free_on(kCompute, std::move(memory));
  EXPECT_THAT(device.races(), IsEmpty());
  EXPECT_THROW(device.run_on(kCompute, "late", {range_of(span)}, {}, [] {}), UsageError);

  DeviceMemory other = device.allocate(kBytes, "temporary");
  device.fill(kUpload, other.span(), std::byte{1});
  device.free_on(kCompute, std::move(other));
  EXPECT_THAT(device.races(), ElementsAre(is_race("fill #3", "free #4")));
}

TEST(SimDevice, RunsOperationsOfDifferentStreamsAtTheSameTime) {
  SimDevice device;
  std::atomic<int> present = 0;
  const auto meet = [&] {
    ++present;
    const auto deadline = std::chrono::steady_clock::now() + kSoon;
    while (present < 2 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    if (present < 2) throw std::runtime_error("the other stream did not come");
  };
  device.run_on(kUpload, "one", {}, {}, meet);
  device.run_on(kCompute, "other", {}, {}, meet);
  for (const StreamRole stream : {kUpload, kCompute}) device.record(stream).synchronize(kSoon);
  EXPECT_EQ(present, 2);
}

TEST(SimDevice, LetsGoOfWhatAnOperationHoldsAlsoWhenItNeverRuns) {
  const auto held = std::make_shared<int>(0);
  {
    SimDevice device({.hang_operation = 2});
    device.run_on(kCompute, "runs", {}, {}, [held] {});
    device.settle(kCompute, kSoon);
    device.run_on(kCompute, "hangs", {}, {}, [held] {});
    const auto memory = std::make_shared<DeviceMemory>(device.allocate(kBytes, "memory"));
    device.run_on(kCompute, "waits behind it", {}, {}, [held, memory] {});
  }
  EXPECT_EQ(held.use_count(), 1);
}

TEST(SimDevice, FailsForGoodWithWhatAnOperationThrew) {
  SimDevice device;
  EXPECT_THAT(message_of<DeviceError>([&] {
                device.run_on(kCompute, "softmax", {}, {},
                              [] { throw std::runtime_error("illegal access"); });
                device.record(kCompute).synchronize(kSoon);
              }),
              AllOf(HasSubstr("softmax #1"), HasSubstr("illegal access")));
}

TEST(SimDevice, FailsTheAllocationThatItIsToldTo) {
  SimDevice device({.fail_allocation = 2});
  const DeviceMemory first = device.allocate(64, "first");
  EXPECT_THROW((void)device.allocate(64, "second"), BudgetError);
  EXPECT_NO_THROW((void)device.allocate(64, "third"));
}

TEST(SimDevice, FailsTheOperationThatItIsToldToAndDoesNoneAfterIt) {
  for (std::size_t one = 1; one <= 4; ++one) {
    SimDevice device({.max_delay = 100us, .fail_operation = one});
    std::atomic<std::size_t> done = 0;
    const auto run_four = [&] {
      for (int i = 0; i < 4; ++i) device.run_on(kCompute, "count", {}, {}, [&] { ++done; });
      device.settle(kCompute, kSoon);
    };
    EXPECT_THROW(run_four(), DeviceError);
    EXPECT_EQ(done, one - 1);
  }
}

TEST(SimDevice, NeverUsesAnAddressTwice) {
  SimDevice device({.capacity_bytes = 64_KiB});
  std::vector<std::uintptr_t> seen;
  for (int i = 0; i < 100; ++i) {
    const DeviceMemory memory = device.allocate(64_KiB, "all of it");
    EXPECT_THAT(seen, testing::Not(testing::Contains(memory.span().address())));
    seen.push_back(memory.span().address());
  }
}

TEST(SimDeviceDeathTest, KillsHostCodeThatTouchesDeviceMemory) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  SimDevice device;
  const DeviceMemory memory = device.allocate(kBytes, "memory");
  const volatile auto* const address =
      reinterpret_cast<const unsigned char*>(memory.span().address());
  EXPECT_DEATH((void)*address, "");
}

}  // namespace
}  // namespace strata::support::sim_device_test
