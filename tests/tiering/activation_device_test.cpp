#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "strata/tiering/activation_store.h"
#include "support/sim_device.h"
#include "tiering/store_fixture.h"

// Activations of a device whose memory the host cannot touch: they leave and come back by copies
// that events order.

namespace strata::tiering::activation_device_test {
namespace {

using namespace std::chrono_literals;
using support::SimDevice;
using support::SimDeviceOptions;
using testing::IsEmpty;

constexpr std::uint64_t kBytes = 96'000;
constexpr int kLayers = 24;

std::vector<std::byte> value_of(int layer) {
  return std::vector<std::byte>(kBytes, static_cast<std::byte>(layer + 1));
}

class ActivationDeviceTest : public StoreTest {
 protected:
  /// Forward and backward of layers whose activations pass through two regions of the device.
  /// Returns how many came back with other bytes than they should.
  int train(SimDevice& device, std::uint64_t nvme_bytes) {
    const ActivationRoom room =
        activation_room(nvme_bytes == 0 ? 4_MiB : 512_KiB, nvme_bytes, kChunk);
    HostArena arena(host_, 8_MiB, log_);
    ActivationStore::Places places{.memory = arena.take(room.host_bytes(), "activations"),
                                   .device = &device};
    if (room.places > 0) {
      places.store = &store_;
      places.extent = store_.allocate(room.nvme_bytes(), "activations");
    }
    ActivationStore store(room, places, counters_);
    const DeviceMemory regions[2] = {device.allocate(kBytes, "even"),
                                     device.allocate(kBytes, "odd")};
    std::vector<ActivationTicket> tickets;
    Event left[2];
    for (int layer = 0; layer < kLayers; ++layer) {
      const DeviceSpan region = regions[layer % 2].span();
      device.wait(StreamRole::kCompute, left[layer % 2]);
      device.fill(StreamRole::kCompute, region, value_of(layer).front());
      store.begin_group();
      auto ticket = store.put(region);
      if (!ticket) return kLayers;
      left[layer % 2] = ticket->left();
      tickets.push_back(*std::move(ticket));
    }
    int wrong = 0;
    std::vector<std::byte> found(kBytes);
    for (int layer = kLayers; layer-- > 0;) {
      const DeviceSpan region = regions[layer % 2].span();
      device.wait(StreamRole::kCompute, left[layer % 2]);
      device.fill(StreamRole::kCompute, region, std::byte{0xee});  // it serves others meanwhile
      store.bring(tickets.back(), region);
      tickets.pop_back();
      device.copy_to_host(StreamRole::kCompute, region, found);
      device.settle(StreamRole::kCompute, 20s);
      if (found != value_of(layer)) ++wrong;
      device.record(StreamRole::kCompute).synchronize(20s);
    }
    return wrong;
  }
};

TEST_F(ActivationDeviceTest, ComeBackInEveryOrderOfTheStreams) {
  for (const std::uint64_t nvme : {std::uint64_t{0}, std::uint64_t{4_MiB}}) {
    for (std::uint64_t seed = 0; seed < 6; ++seed) {
      SimDevice device({.seed = seed, .max_delay = std::chrono::microseconds(seed * 100)});
      EXPECT_EQ(train(device, nvme), 0) << "seed " << seed;
      EXPECT_THAT(device.races(), IsEmpty()) << device.races().front().text;
    }
  }
}

}  // namespace
}  // namespace strata::tiering::activation_device_test
