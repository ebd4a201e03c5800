#include "simulated_accelerator/live_device.h"

#include <array>
#include <atomic>
#include <string>
#include <utility>

#include "strata/base/error.h"

namespace strata::simulated {
namespace {

std::array<std::atomic<support::SimDevice*>, kDevicesMax> live{};
thread_local c10::DeviceIndex index_of_thread = 0;
thread_local std::array<StreamRole, kDevicesMax> roles_of_thread{};  // kCompute

std::atomic<support::SimDevice*>& place_of(c10::DeviceIndex index) {
  if (index < 0 || index >= kDevicesMax) {
    throw UsageError("simulated accelerator " + std::to_string(index) +
                     ": LibTorch knows those from 0 to " + std::to_string(kDevicesMax - 1));
  }
  return live[static_cast<std::size_t>(index)];
}

}  // namespace

c10::DeviceIndex current_index() noexcept { return index_of_thread; }

c10::DeviceIndex exchange_index(c10::DeviceIndex index) noexcept {
  return std::exchange(index_of_thread, index);
}

c10::DeviceIndex index_of(c10::Device device) noexcept {
  return device.has_index() ? device.index() : current_index();
}

support::SimDevice& live_device(c10::DeviceIndex index) {
  support::SimDevice* const device = place_of(index).load();
  if (device == nullptr) {
    throw UsageError("an operator ran on simulated accelerator " + std::to_string(index) +
                     " when there was none; keep a SimulatedAccelerator for as long as its tensors "
                     "are used");
  }
  return *device;
}

support::SimDevice& live_device() { return live_device(current_index()); }

bool is_live(c10::DeviceIndex index) { return place_of(index).load() != nullptr; }

void set_live_device(c10::DeviceIndex index, support::SimDevice* device) noexcept {
  live[static_cast<std::size_t>(index)] = device;
}

std::optional<c10::DeviceIndex> owner_of(const void* address) noexcept {
  for (c10::DeviceIndex index = 0; index < kDevicesMax; ++index) {
    const support::SimDevice* const device = live[static_cast<std::size_t>(index)].load();
    if (device != nullptr && device->owns(reinterpret_cast<std::uintptr_t>(address))) return index;
  }
  return std::nullopt;
}

c10::Stream stream_of(c10::DeviceIndex index, StreamRole role) noexcept {
  return c10::Stream(c10::Stream::UNSAFE, c10::Device(kDeviceType, index),
                     static_cast<c10::StreamId>(role));
}

StreamRole role_of(const c10::Stream& stream) noexcept {
  return static_cast<StreamRole>(stream.id());
}

StreamRole current_role(c10::DeviceIndex index) noexcept {
  return roles_of_thread[static_cast<std::size_t>(index)];
}

StreamRole current_role() noexcept { return current_role(current_index()); }

StreamRole exchange_role(c10::DeviceIndex index, StreamRole role) noexcept {
  return std::exchange(roles_of_thread[static_cast<std::size_t>(index)], role);
}

}  // namespace strata::simulated
