#include "strata/tiering/host_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "strata/base/error.h"
#include "tiering/store_fixture.h"

namespace strata::tiering::host_device_test {
namespace {

/// The device tier of a machine without a GPU, with its budget.
class HostDeviceTest : public StoreTest {
 protected:
  Budget device_budget_{Tier::kDevice, 1_MiB};
  HostArena device_arena_{device_budget_, 1_MiB, log_};
  HostDevice device_{device_arena_};
};

TEST_F(HostDeviceTest, TakesAFetchStraightIntoItsMemory) {
  const Extent extent = store_.allocate(3 * kChunk + 777, "blocks.3 hi");
  const auto bytes = random_bytes(extent.bytes, 1);
  write(extent, bytes);

  const DeviceMemory region = device_.allocate(store_.buffer_bytes(extent.bytes), "region");
  auto transfer = fetch(store_, extent, {0, extent.bytes}, *device_.host_view(region.span()));
  ASSERT_TRUE(transfer);
  transfer->wait();
  std::vector<std::byte> back(extent.bytes);
  device_.copy_to_host(StreamRole::kDrain, region.span().first(extent.bytes), back);
  EXPECT_EQ(back, bytes);
}

TEST_F(HostDeviceTest, ChargesTheBudgetWithWhatItGivesInWholePages) {
  EXPECT_EQ(device_budget_.used(), 0);
  const DeviceMemory first = device_.allocate(Device::kAlignment + 1, "homes");
  EXPECT_EQ(device_budget_.used(), 2 * Device::kAlignment);
  const DeviceMemory rest = device_.allocate(1_MiB - 2 * Device::kAlignment, "regions");
  EXPECT_EQ(device_budget_.used(), 1_MiB);
  EXPECT_THROW((void)device_.allocate(1, "one byte more"), BudgetError);
}

TEST_F(HostDeviceTest, GivesOutAgainWhatCameBackBeforeItAsksForMore) {
  { const DeviceMemory passing = device_.allocate(512_KiB, "passing"); }
  const DeviceMemory first = device_.allocate(256_KiB, "first");
  const DeviceMemory second = device_.allocate(256_KiB, "second");
  EXPECT_EQ(device_budget_.peak(), 512_KiB);
}

TEST_F(HostDeviceTest, HasDoneEveryOperationWhenItsCallReturns) {
  EXPECT_FALSE(device_.properties().copies_are_asynchronous);
  const DeviceMemory memory = device_.allocate(100, "memory");
  const auto view = *device_.host_view(memory.span());
  device_.fill(StreamRole::kCompute, memory.span(), std::byte{4});
  EXPECT_TRUE(device_.record(StreamRole::kCompute).is_done());
  EXPECT_TRUE(std::ranges::all_of(view, [](std::byte one) { return one == std::byte{4}; }));
}

}  // namespace
}  // namespace strata::tiering::host_device_test
