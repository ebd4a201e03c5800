#include "simulated_accelerator/hooks.h"

#include "simulated_accelerator/device_generator.h"
#include "simulated_accelerator/layout_kernels.h"
#include "simulated_accelerator/live_device.h"
#include "simulated_accelerator/pinned_allocator.h"

namespace strata::simulated {

const at::Generator& Hooks::getDefaultGenerator(c10::DeviceIndex) const {
  return default_generator();
}

at::Generator Hooks::getNewGenerator(c10::DeviceIndex) const { return new_generator(); }

at::Device Hooks::getDeviceFromPtr(void*) const { return kTorchDevice; }

bool Hooks::isPinnedPtr(const void* data) const { return pinned_allocator().owns(data); }

at::Allocator* Hooks::getPinnedMemoryAllocator() const { return &pinned_allocator(); }

void Hooks::resizePrivateUse1Bytes(const c10::Storage& storage, std::size_t bytes) const {
  resize_storage(storage, bytes);
}

}  // namespace strata::simulated
