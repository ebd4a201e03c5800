#include "strata/tiering/device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "strata/base/error.h"
#include "strata/base/log.h"
#include "strata/base/units.h"
#include "strata/tiering/host_device.h"
#include "support/message_of.h"
#include "support/sim_device.h"

namespace strata::tiering::device_contract_test {
namespace {

using support::message_of;
using namespace std::chrono_literals;

constexpr std::uint64_t kCapacity = 1_MiB;
constexpr auto kSoon = 20s;  // a bound for what must come, never a time that a test waits for
constexpr auto kStream = StreamRole::kUpload;

/// Faults that can be made in a device that is asynchronous; operations count from 1.
struct DeviceFaults {
  std::size_t fail_operation = 0;
  std::size_t hang_operation = 0;
  bool refuse_registration = false;
};

/// A device of kCapacity bytes to run the contract over. A device that is not asynchronous has no
/// faults.
struct DeviceCase {
  std::string name;
  std::function<std::shared_ptr<Device>(const DeviceFaults&)> make;
};

std::shared_ptr<Device> make_host_device(const DeviceFaults&) {
  struct Owner {
    std::ostringstream lines;
    Logger log{lines};
    Budget budget{Tier::kDevice, kCapacity};
    HostArena arena{budget, kCapacity, log};
    HostDevice device{arena};
  };
  const auto owner = std::make_shared<Owner>();
  return {owner, &owner->device};
}

/// Accesses that it finds unordered fail the test that made them. Memory that goes while a stream
/// hangs is rightly found, so those tests are not asked.
std::shared_ptr<Device> make_sim_device(const DeviceFaults& faults) {
  const auto expect_no_races = [hangs = faults.hang_operation > 0](support::SimDevice* device) {
    const std::unique_ptr<support::SimDevice> owner(device);
    if (hangs) return;
    for (const support::Race& race : device->races()) ADD_FAILURE() << race.text;
  };
  return {new support::SimDevice({.capacity_bytes = kCapacity,
                                  .seed = 1,
                                  .max_delay = 200us,
                                  .fail_operation = faults.fail_operation,
                                  .hang_operation = faults.hang_operation,
                                  .refuse_registration = faults.refuse_registration}),
          expect_no_races};
}

std::vector<std::byte> bytes_of(std::uint64_t count, int value) {
  return std::vector<std::byte>(count, static_cast<std::byte>(value));
}

class DeviceContract : public testing::TestWithParam<DeviceCase> {
 protected:
  /// The content of device memory when all of `stream` has been done.
  std::vector<std::byte> read(StreamRole stream, DeviceSpan range) {
    std::vector<std::byte> bytes(range.bytes());
    device_->copy_to_host(stream, range, bytes);
    device_->record(stream).synchronize(kSoon);
    return bytes;
  }

  std::shared_ptr<Device> device_ = GetParam().make({});
};

TEST_P(DeviceContract, BringsBytesToTheDeviceAcrossItAndBack) {
  const DeviceMemory first = device_->allocate(10'000, "first");
  const DeviceMemory second = device_->allocate(10'000, "second");
  std::vector<std::byte> sent(10'000);
  for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<std::byte>(i * 7 % 251);

  device_->copy_to_device(kStream, sent, first.span());
  device_->copy_within(kStream, first.span(), second.span());
  EXPECT_EQ(read(kStream, second.span()), sent);
}

TEST_P(DeviceContract, CopiesAndFillsTheNamedRangeAndNothingBesideIt) {
  const DeviceMemory memory = device_->allocate(300, "memory");
  device_->fill(kStream, memory.span(), std::byte{1});
  device_->fill(kStream, memory.span().subspan(100, 50), std::byte{2});
  const auto threes = bytes_of(50, 3);
  device_->copy_to_device(kStream, threes, memory.span().subspan(200, 50));

  auto expected = bytes_of(300, 1);
  std::fill_n(expected.begin() + 100, 50, std::byte{2});
  std::fill_n(expected.begin() + 200, 50, std::byte{3});
  EXPECT_EQ(read(kStream, memory.span()), expected);
}

TEST_P(DeviceContract, DoesNothingForNoBytes) {
  const DeviceMemory memory = device_->allocate(8, "memory");
  device_->fill(kStream, memory.span(), std::byte{1});
  device_->copy_to_device(kStream, {}, memory.span().first(0));
  device_->copy_within(kStream, memory.span().first(0), memory.span().first(0));
  device_->copy_to_host(kStream, {}, {});
  device_->fill(kStream, {}, std::byte{2});
  EXPECT_EQ(read(kStream, memory.span()), bytes_of(8, 1));
}

TEST_P(DeviceContract, OrdersStreamsByEventsSoThatTwoRegionsCarryManyUnits) {
  constexpr std::uint64_t kBytes = 8192;
  struct Lane {
    DeviceMemory region, gradients;
    std::vector<std::byte> up = std::vector<std::byte>(kBytes);
    std::vector<std::byte> down = std::vector<std::byte>(kBytes);
    Event uploaded, computed, drained;
  };
  Lane lanes[2];
  for (Lane& lane : lanes) {
    lane.region = device_->allocate(kBytes, "region");
    lane.gradients = device_->allocate(kBytes, "gradients");
  }
  constexpr int kUnits = 40;
  for (int unit = 0; unit < kUnits + 2; ++unit) {
    Lane& lane = lanes[unit % 2];
    lane.drained.synchronize(kSoon);
    if (unit >= 2) {
      ASSERT_EQ(lane.down, bytes_of(kBytes, unit - 2));
    }
    if (unit >= kUnits) continue;

    lane.uploaded.synchronize(kSoon);
    std::ranges::fill(lane.up, static_cast<std::byte>(unit));
    device_->wait(StreamRole::kUpload, lane.computed);
    device_->copy_to_device(StreamRole::kUpload, lane.up, lane.region.span());
    lane.uploaded = device_->record(StreamRole::kUpload);

    device_->wait(StreamRole::kCompute, lane.uploaded);
    device_->wait(StreamRole::kCompute, lane.drained);
    device_->copy_within(StreamRole::kCompute, lane.region.span(), lane.gradients.span());
    lane.computed = device_->record(StreamRole::kCompute);

    device_->wait(StreamRole::kDrain, lane.computed);
    device_->copy_to_host(StreamRole::kDrain, lane.gradients.span(), lane.down);
    lane.drained = device_->record(StreamRole::kDrain);
  }
}

TEST_P(DeviceContract, HasEventsThatStayAtTheirPointAndAreDoneForGood) {
  EXPECT_TRUE(Event().is_done()) << "nothing lies before an event that was never recorded";
  Event().synchronize(0s);
  device_->wait(kStream, Event());

  const DeviceMemory memory = device_->allocate(64, "memory");
  device_->fill(kStream, memory.span(), std::byte{1});
  const Event event = device_->record(kStream);
  const Event copy = event;
  event.synchronize(kSoon);
  EXPECT_TRUE(event.is_done());
  EXPECT_TRUE(copy.is_done());
  device_->fill(kStream, memory.span(), std::byte{2});
  EXPECT_TRUE(copy.is_done()) << "what comes later does not move it";
  copy.synchronize(0s);
  device_->record(kStream).synchronize(kSoon);
}

TEST_P(DeviceContract, GivesAlignedMemoryUntilItIsFullAndAgainWhenSomeCameBack) {
  std::vector<DeviceMemory> memory;
  const auto fill_up = [&] {
    for (int i = 0; i < 1000; ++i) memory.push_back(device_->allocate(kCapacity / 8, "a piece"));
  };
  EXPECT_THROW(fill_up(), BudgetError);
  ASSERT_EQ(memory.size(), 8u);
  for (const DeviceMemory& piece : memory) {
    EXPECT_EQ(piece.span().address() % Device::kAlignment, 0u);
    EXPECT_EQ(piece.span().bytes(), kCapacity / 8);
  }
  memory.pop_back();
  EXPECT_THROW(fill_up(), BudgetError);
  EXPECT_EQ(memory.size(), 8u);
  EXPECT_EQ(device_->properties().total_bytes, kCapacity);
}

TEST_P(DeviceContract, SaysForWhatItHasNoRoomAndGoesOn) {
  const DeviceMemory memory = device_->allocate(64, "the first");
  const std::string message =
      message_of<BudgetError>([&] { (void)device_->allocate(2 * kCapacity, "weights of unit 7"); });
  EXPECT_NE(message.find("weights of unit 7"), std::string::npos) << message;
  EXPECT_NE(message.find(std::to_string(2 * kCapacity)), std::string::npos) << message;
  EXPECT_NE(message.find(device_->properties().name), std::string::npos) << message;
  device_->fill(kStream, memory.span(), std::byte{5});
  EXPECT_EQ(read(kStream, memory.span()), bytes_of(64, 5));
  EXPECT_THROW((void)device_->allocate(0, "nothing"), UsageError);
}

TEST_P(DeviceContract, RefusesRangesThatAreNotInsideOfOneLiveMemory) {
  DeviceMemory memory = device_->allocate(4096, "memory");
  const DeviceMemory neighbour = device_->allocate(4096, "neighbour");
  const DeviceSpan range = memory.span();
  const DeviceSpan too_long(range.address(), range.bytes() + 1);
  const DeviceSpan before(range.address() - 1, 2);
  const DeviceSpan other(range.address() + kCapacity * 1024, 1);
  auto host = bytes_of(4097, 9);
  device_->fill(kStream, range, std::byte{1});

  for (const DeviceSpan bad : {too_long, before, other}) {
    EXPECT_THROW(device_->fill(kStream, bad, std::byte{2}), UsageError);
    const std::span<std::byte> buffer = std::span(host).first(bad.bytes());
    EXPECT_THROW(device_->copy_to_device(kStream, buffer, bad), UsageError);
    EXPECT_THROW(device_->copy_to_host(kStream, bad, buffer), UsageError);
    EXPECT_THROW((void)device_->host_view(bad), UsageError);
  }
  EXPECT_THROW(device_->copy_within(kStream, other, range.first(1)), UsageError);
  EXPECT_THROW(device_->copy_within(kStream, range.first(1), other), UsageError);
  EXPECT_EQ(read(kStream, range), bytes_of(4096, 1)) << "what is refused is not begun";

  memory = DeviceMemory();
  EXPECT_THROW(device_->fill(kStream, range, std::byte{2}), UsageError) << "it was given back";
}

TEST_P(DeviceContract, RefusesCopiesBetweenLengthsThatDifferAndOverlappingPlaces) {
  const DeviceMemory memory = device_->allocate(100, "memory");
  auto host = bytes_of(100, 0);
  EXPECT_THROW(device_->copy_to_device(kStream, host, memory.span().first(99)), UsageError);
  EXPECT_THROW(device_->copy_to_host(kStream, memory.span().first(99), host), UsageError);
  const DeviceSpan head = memory.span().first(50);
  EXPECT_THROW(device_->copy_within(kStream, head, memory.span()), UsageError);
  EXPECT_THROW(device_->copy_within(kStream, head, memory.span().subspan(49, 50)), UsageError);
  EXPECT_NO_THROW(device_->fill(kStream, head, std::byte{0}));
  EXPECT_NO_THROW(device_->copy_within(kStream, head, memory.span().subspan(50, 50)));
  EXPECT_THROW((void)memory.span().subspan(50, 51), UsageError);
  EXPECT_THROW((void)memory.span().subspan(101, 0), UsageError);
  device_->record(kStream).synchronize(kSoon);
}

TEST_P(DeviceContract, ShowsItsBytesToTheHostExactlyWhereTheyAreHostMemory) {
  const DeviceMemory memory = device_->allocate(100, "memory");
  const auto view = device_->host_view(memory.span().subspan(10, 20));
  ASSERT_EQ(view.has_value(), device_->properties().memory_is_host);
  if (!view) return;
  ASSERT_EQ(view->size(), 20u);
  std::ranges::fill(*view, std::byte{7});
  EXPECT_EQ(read(kStream, memory.span().subspan(10, 20)), bytes_of(20, 7));
}

TEST_P(DeviceContract, LetsOwnersMoveAndGiveBackOnce) {
  auto host = bytes_of(4096, 0);
  HostRegistration registration = device_->register_host(host, "a slot");
  EXPECT_TRUE(registration.is_registered()) << registration.refusal();
  HostRegistration moved = std::move(registration);
  EXPECT_TRUE(moved.is_registered());
  moved = HostRegistration();
  EXPECT_FALSE(moved.is_registered());
  EXPECT_THROW((void)device_->register_host({}, "nothing"), UsageError);

  DeviceMemory whole = device_->allocate(kCapacity, "whole");
  DeviceMemory owner = std::move(whole);
  EXPECT_EQ(owner.span().bytes(), kCapacity);
  owner = DeviceMemory();
  EXPECT_NO_THROW((void)device_->allocate(kCapacity, "whole"));
}

TEST_P(DeviceContract, MayBeCalledByManyThreadsAtOnce) {
  std::atomic<int> right = 0;
  const auto use = [&](StreamRole stream, int value) {
    for (int i = 0; i < 50; ++i) {
      const DeviceMemory memory = device_->allocate(4096, "memory of a thread");
      device_->fill(stream, memory.span(), static_cast<std::byte>(value));
      if (read(stream, memory.span()) == bytes_of(4096, value)) ++right;
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(use, static_cast<StreamRole>(i % 3), i);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 200);
}

/// Properties that only a device shows that does its work later and can be made to fail.
class AsynchronousDeviceContract : public testing::TestWithParam<DeviceCase> {
 protected:
  [[nodiscard]] std::shared_ptr<Device> make(const DeviceFaults& faults) {
    std::shared_ptr<Device> device = GetParam().make(faults);
    EXPECT_TRUE(device->properties().copies_are_asynchronous);
    return device;
  }
};

TEST_P(AsynchronousDeviceContract, ReturnsAtOnceFromEveryCallAlthoughTheStreamHangs) {
  const auto device = make({.hang_operation = 1});
  auto host = bytes_of(64, 1);
  auto back = bytes_of(64, 0);
  const DeviceMemory a = device->allocate(64, "a");
  const DeviceMemory b = device->allocate(64, "b");
  device->copy_to_device(StreamRole::kUpload, host, a.span());
  device->copy_within(StreamRole::kUpload, a.span(), b.span());
  device->fill(StreamRole::kUpload, a.span(), std::byte{2});
  const Event uploaded = device->record(StreamRole::kUpload);
  device->wait(StreamRole::kCompute, uploaded);
  device->copy_to_host(StreamRole::kCompute, b.span(), back);
  EXPECT_FALSE(uploaded.is_done());
  EXPECT_FALSE(device->record(StreamRole::kCompute).is_done()) << "it waits for what hangs";
  EXPECT_EQ(back, bytes_of(64, 0));
}

TEST_P(AsynchronousDeviceContract, RunsStreamsBesideEachOtherWhereNoEventOrdersThem) {
  const auto device = make({.hang_operation = 1});
  const DeviceMemory hung = device->allocate(64, "hung");
  const DeviceMemory memory = device->allocate(64, "memory");
  auto back = bytes_of(64, 0);
  device->fill(StreamRole::kUpload, hung.span(), std::byte{1});
  device->fill(StreamRole::kCompute, memory.span(), std::byte{2});
  device->wait(StreamRole::kDrain, device->record(StreamRole::kCompute));
  device->copy_to_host(StreamRole::kDrain, memory.span(), back);
  device->record(StreamRole::kDrain).synchronize(kSoon);
  EXPECT_EQ(back, bytes_of(64, 2));
  EXPECT_FALSE(device->record(StreamRole::kUpload).is_done());
}

TEST_P(AsynchronousDeviceContract, EndsAWaitForAHungStreamAtItsDeadline) {
  const auto device = make({.hang_operation = 2});
  const DeviceMemory memory = device->allocate(64, "memory");
  device->fill(kStream, memory.span(), std::byte{1});
  const Event before = device->record(kStream);
  device->fill(kStream, memory.span(), std::byte{2});
  const Event behind = device->record(kStream);
  before.synchronize(kSoon);
  EXPECT_THROW(behind.synchronize(20ms), DeadlineExceeded);
  EXPECT_THROW(behind.synchronize(0ms), DeadlineExceeded);
  EXPECT_FALSE(behind.is_done());
}

TEST_P(AsynchronousDeviceContract, ThrowsTheErrorOfAFailedDeviceFromEveryLaterCall) {
  const auto device = make({.fail_operation = 2});
  DeviceMemory memory = device->allocate(64, "memory");
  auto host = bytes_of(64, 1);
  HostRegistration registration = device->register_host(host, "host");
  device->copy_to_device(kStream, host, memory.span());
  const Event before = device->record(kStream);
  before.synchronize(kSoon);
  const auto fail = [&] {
    device->copy_to_host(kStream, memory.span(), host);
    device->record(kStream).synchronize(kSoon);
  };
  EXPECT_THROW(fail(), DeviceError);

  const std::vector<std::function<void()>> calls = {
      [&] { (void)before.is_done(); },
      [&] { before.synchronize(kSoon); },
      [&] { (void)device->allocate(64, "more"); },
      [&] { (void)device->host_view(memory.span()); },
      [&] { (void)device->register_host(host, "host"); },
      [&] { device->copy_to_device(kStream, host, memory.span()); },
      [&] { device->copy_to_host(kStream, memory.span(), host); },
      [&] { device->copy_within(kStream, memory.span().first(1), memory.span().subspan(1, 1)); },
      [&] { device->fill(StreamRole::kDrain, memory.span(), std::byte{0}); },
      [&] { (void)device->record(StreamRole::kCompute); },
      [&] { device->wait(StreamRole::kCompute, before); }};
  std::string first;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const std::string message = message_of<DeviceError>(calls[i]);
    if (i == 0) first = message;
    EXPECT_EQ(message, first) << "call " << i;
    EXPECT_NE(first.find(device->properties().name), std::string::npos) << first;
  }
}

TEST_P(AsynchronousDeviceContract, SaysWhyItRefusesToRegisterAndCopiesAllTheSame) {
  const auto device = make({.refuse_registration = true});
  auto host = bytes_of(64, 3);
  auto back = bytes_of(64, 0);
  const HostRegistration registration = device->register_host(host, "staging slots");
  EXPECT_FALSE(registration.is_registered());
  EXPECT_NE(registration.refusal().find("staging slots"), std::string::npos)
      << registration.refusal();
  const DeviceMemory memory = device->allocate(64, "memory");
  device->copy_to_device(kStream, host, memory.span());
  device->copy_to_host(kStream, memory.span(), back);
  device->record(kStream).synchronize(kSoon);
  EXPECT_EQ(back, host);
}

TEST_P(AsynchronousDeviceContract, HasEventsThatNoOtherDeviceTakes) {
  const auto one = make({});
  const auto other = make({});
  const Event event = one->record(kStream);
  EXPECT_THROW(other->wait(kStream, event), UsageError);
  EXPECT_THROW(make_host_device({})->wait(kStream, event), UsageError);
  one->wait(StreamRole::kDrain, event);
}

const DeviceCase kHost{"Host", make_host_device};
const DeviceCase kSim{"Sim", make_sim_device};
std::string name_of_case(const testing::TestParamInfo<DeviceCase>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Devices, DeviceContract, testing::Values(kHost, kSim), name_of_case);
INSTANTIATE_TEST_SUITE_P(Devices, AsynchronousDeviceContract, testing::Values(kSim), name_of_case);

}  // namespace
}  // namespace strata::tiering::device_contract_test
