#include "strata/tiering/movement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "strata/base/error.h"
#include "strata/tiering/home_transfer.h"
#include "support/sim_device.h"
#include "tiering/store_fixture.h"

/// \file
/// Upload and drain (fetch and flush have the tests of the store), and what moves states whatever
/// their home is.

namespace strata::tiering {
namespace {

using testing::IsEmpty;
using testing::Not;

TEST(UploadAndDrain, BringBytesThereAndBackAndCountTheirHops) {
  support::SimDevice device({.max_delay = std::chrono::microseconds(200)});
  const DeviceMemory memory = device.allocate(12'345, "memory");
  const std::vector<std::byte> sent = random_bytes(12'345, 1);
  std::vector<std::byte> back(sent.size());
  Counters counters;

  DeviceCopy there = upload(device, sent, memory.span(), counters);
  device.wait(StreamRole::kDrain, there.event());
  DeviceCopy here = drain(device, memory.span(), back, counters);
  here.wait();
  there.wait();
  EXPECT_TRUE(here.done());
  EXPECT_EQ(back, sent);
  for (const Hop hop : {Hop::kUpload, Hop::kDrain}) {
    EXPECT_EQ(counters.read()[hop].bytes, sent.size());
    EXPECT_EQ(counters.read()[hop].calls, 1u);
  }
  EXPECT_THROW(here.wait(), UsageError);
  EXPECT_THAT(device.races(), IsEmpty());
}

TEST(UploadAndDrain, WaitForTheirEndWhenTheyAreDropped) {
  support::SimDevice device({.max_delay = std::chrono::microseconds(200)});
  const DeviceMemory memory = device.allocate(100, "memory");
  std::vector<std::byte> bytes(100, std::byte{7});
  Counters counters;
  (void)upload(device, bytes, memory.span(), counters);
  device.note_host_write(bytes);
  device.record(StreamRole::kUpload).synchronize(std::chrono::seconds(20));
  EXPECT_THAT(device.races(), IsEmpty());
}

TEST(UploadAndDrain, AreReportedWhenTheHostUsesTheBufferTooEarly) {
  support::SimDevice device;
  const DeviceMemory memory = device.allocate(100, "memory");
  std::vector<std::byte> bytes(100);
  Counters counters;
  DeviceCopy copy = drain(device, memory.span(), bytes, counters);
  device.note_host_read(bytes);
  copy.wait();
  EXPECT_THAT(device.races(), Not(IsEmpty()));
}

class HomeTransferTest : public StoreTest {
 protected:
  /// Writes `bytes` to the second half of a home and reads the whole of it.
  std::vector<std::byte> write_and_read(const StateHome& home, std::span<const std::byte> bytes) {
    const HomePlaces places{.store = &store_, .device = &device_, .counters = &counters_};
    const std::span<std::byte> buffer = take_buffer(2 * kChunk);
    std::ranges::copy(bytes, buffer.begin());
    flush_home(places, home, {kChunk, kChunk}, buffer).value().wait();
    HomeTransfer arriving = fetch_home(places, home, {0, 2 * kChunk}, buffer).value();
    arriving.wait();
    EXPECT_TRUE(arriving.done());
    return {buffer.begin(), buffer.begin() + 2 * kChunk};
  }

  support::SimDevice device_{{.max_delay = std::chrono::microseconds(200)}};
};

TEST_F(HomeTransferTest, ReachesHomesOnNvmeAndOnADeviceAlike) {
  const auto bytes = random_bytes(kChunk, 1);
  const DeviceMemory memory = device_.allocate(2 * kChunk, "state");
  device_.fill(StreamRole::kUpload, memory.span(), std::byte{0});
  device_.record(StreamRole::kUpload).synchronize(std::chrono::seconds(20));

  const auto from_disk = write_and_read({.extent = store_.allocate(2 * kChunk, "state")}, bytes);
  const auto from_device = write_and_read({.device = memory.span()}, bytes);
  EXPECT_EQ(from_disk, from_device);
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), from_device.begin() + kChunk));
  EXPECT_EQ(counters_.read()[Hop::kUpload].bytes, kChunk);
  EXPECT_EQ(counters_.read()[Hop::kDrain].bytes, 2 * kChunk);
  EXPECT_THAT(device_.races(), IsEmpty());
}

TEST(StateHome, IsElsewhereWhereHostCodeCannotTouchIt) {
  std::vector<std::byte> bytes(1);
  const DeviceSpan device(4096, 1);
  EXPECT_FALSE(StateHome{}.exists());
  EXPECT_FALSE(StateHome{}.is_elsewhere());
  EXPECT_FALSE(StateHome{.memory = bytes}.is_elsewhere());
  EXPECT_FALSE((StateHome{.memory = bytes, .device = device}).is_elsewhere());
  EXPECT_TRUE(StateHome{.device = device}.is_elsewhere());
  EXPECT_TRUE(StateHome{.extent = Extent{}}.is_elsewhere());
}

}  // namespace
}  // namespace strata::tiering
