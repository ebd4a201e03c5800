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

namespace strata::tiering::movement_test {
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

class RecordedTransferTest : public StoreTest {};

TEST_F(RecordedTransferTest, HasTheTimeOfItsRequestsInASlotOfItsOwn) {
  const Extent extent = store_.allocate(2 * kChunk, "blocks.3 m");
  write(extent, random_bytes(2 * kChunk, 1));
  Timeline timeline;
  counters_.record_into(&timeline);
  const Time begin = clock_.now();
  std::span<std::byte> buffer = take_buffer(2 * kChunk);
  auto first = fetch(store_, extent, {0, kChunk}, buffer.first(kChunk));
  auto second = fetch(store_, extent, {kChunk, kChunk}, buffer.subspan(kChunk));
  EXPECT_TRUE(first->done() && second->done());
  clock_.advance(std::chrono::hours(1));  // nobody waits for what has arrived
  first->wait();
  second->wait();
  write(extent, random_bytes(kChunk, 2));
  counters_.record_into(nullptr);
  read(extent);

  std::vector<TimelineRecord::Span> transfers;
  const TimelineRecord record = timeline.read();
  for (const auto& span : record.spans) {
    if (span.kind == SpanKind::kTransfer) transfers.push_back(span);
  }
  ASSERT_EQ(transfers.size(), 3u);
  for (const auto& span : transfers) EXPECT_EQ(record.names[span.name], "blocks.3 m");
  for (const auto& span : transfers) EXPECT_EQ(span.bytes, kChunk);
  for (const auto& span : std::span(transfers).first(2)) {
    EXPECT_EQ(span.hop, Hop::kFetch);
    EXPECT_GE(span.begin, begin);
    EXPECT_LT(span.end, begin + std::chrono::minutes(1));
  }
  EXPECT_NE(transfers[0].slot, transfers[1].slot);
  EXPECT_EQ(transfers[2].hop, Hop::kFlush);
  EXPECT_GE(transfers[2].begin, begin + std::chrono::hours(1));
}

TEST_F(RecordedTransferTest, LeadsToTheUploadOfItsBytes) {
  support::SimDevice device;
  const Extent extent = store_.allocate(kChunk, "weight");
  write(extent, random_bytes(kChunk, 1));
  const DeviceMemory memory = device.allocate(kChunk, "unit");
  Timeline timeline;
  counters_.record_into(&timeline);
  std::span<std::byte> slot = take_buffer(kChunk);
  fetch(store_, extent, {0, kChunk}, slot)->wait();
  upload(device, slot.first(kChunk), memory.span(), counters_).wait();
  const TimelineRecord record = timeline.read();
  ASSERT_EQ(record.flows.size(), 1u);
  EXPECT_EQ(record.spans[record.flows[0].from].kind, SpanKind::kTransfer);
  EXPECT_EQ(record.spans[record.flows[0].to].hop, Hop::kUpload);
}

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
}  // namespace strata::tiering::movement_test
