#pragma once

#include <ATen/detail/PrivateUse1HooksInterface.h>

namespace strata::simulated {

/// LibTorch's demands on an accelerator besides operators, streams and events.
class Hooks final : public at::PrivateUse1HooksInterface {
 public:
  [[nodiscard]] bool isBuilt() const override { return true; }
  [[nodiscard]] bool isAvailable() const override { return true; }
  [[nodiscard]] bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }

  [[nodiscard]] c10::DeviceIndex deviceCount() const override;
  [[nodiscard]] c10::DeviceIndex getCurrentDevice() const override;
  void setCurrentDevice(c10::DeviceIndex index) const override;
  [[nodiscard]] c10::DeviceIndex exchangeDevice(c10::DeviceIndex index) const override;
  [[nodiscard]] c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex index) const override;

  [[nodiscard]] const at::Generator& getDefaultGenerator(c10::DeviceIndex index) const override;
  [[nodiscard]] at::Generator getNewGenerator(c10::DeviceIndex index) const override;
  [[nodiscard]] at::Device getDeviceFromPtr(void* address) const override;
  [[nodiscard]] bool isPinnedPtr(const void* data) const override;
  [[nodiscard]] at::Allocator* getPinnedMemoryAllocator() const override;
  void resizePrivateUse1Bytes(const c10::Storage& storage, std::size_t bytes) const override;
};

}  // namespace strata::simulated
