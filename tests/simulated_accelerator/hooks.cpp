#include "simulated_accelerator/hooks.h"

#include "simulated_accelerator/device_generator.h"
#include "simulated_accelerator/layout_kernels.h"
#include "simulated_accelerator/live_device.h"
#include "simulated_accelerator/pinned_allocator.h"

namespace strata::simulated {

namespace {

/// An index that LibTorch gives: -1 means the current device.
c10::DeviceIndex given(c10::DeviceIndex index) { return index_of(c10::Device(kDeviceType, index)); }

}  // namespace

c10::DeviceIndex Hooks::deviceCount() const { return kDevicesMax; }

c10::DeviceIndex Hooks::getCurrentDevice() const { return current_index(); }

void Hooks::setCurrentDevice(c10::DeviceIndex index) const { exchange_index(given(index)); }

c10::DeviceIndex Hooks::exchangeDevice(c10::DeviceIndex index) const {
  return exchange_index(given(index));
}

c10::DeviceIndex Hooks::maybeExchangeDevice(c10::DeviceIndex index) const {
  return exchange_index(given(index));
}

const at::Generator& Hooks::getDefaultGenerator(c10::DeviceIndex index) const {
  return default_generator(given(index));
}

at::Generator Hooks::getNewGenerator(c10::DeviceIndex index) const {
  return new_generator(given(index));
}

at::Device Hooks::getDeviceFromPtr(void* address) const {
  return {kDeviceType, owner_of(address).value_or(current_index())};
}

bool Hooks::isPinnedPtr(const void* data) const { return pinned_allocator().owns(data); }

at::Allocator* Hooks::getPinnedMemoryAllocator() const { return &pinned_allocator(); }

void Hooks::resizePrivateUse1Bytes(const c10::Storage& storage, std::size_t bytes) const {
  resize_storage(storage, bytes);
}

}  // namespace strata::simulated
