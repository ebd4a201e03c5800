#pragma once

#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "simulated_accelerator/live_device.h"

namespace strata::simulated {

/// LibTorch's words for the streams and events of the live devices: c10::Stream, c10::Event,
/// c10::StreamGuard and autograd go through it. A stream of a device for each role is all there is:
/// asking for another one is refused.
class DeviceGuard final : public c10::impl::DeviceGuardImplInterface {
 public:
  [[nodiscard]] c10::DeviceType type() const override { return kDeviceType; }
  [[nodiscard]] c10::DeviceIndex deviceCount() const noexcept override { return kDevicesMax; }
  [[nodiscard]] c10::Device getDevice() const override { return {kDeviceType, current_index()}; }
  c10::Device exchangeDevice(c10::Device device) const override {
    return {kDeviceType, exchange_index(index_of(device))};
  }
  void setDevice(c10::Device device) const override { exchange_index(index_of(device)); }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    exchange_index(index_of(device));
  }

  [[nodiscard]] c10::Stream getStream(c10::Device device) const override {
    return stream_of(index_of(device), current_role(index_of(device)));
  }
  [[nodiscard]] c10::Stream getDefaultStream(c10::Device device) const override {
    return stream_of(index_of(device), StreamRole::kCompute);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    const c10::DeviceIndex index = stream.device_index();
    return stream_of(index, exchange_role(index, role_of(stream)));
  }
  [[nodiscard]] bool queryStream(const c10::Stream& stream) const override;
  void synchronizeStream(const c10::Stream& stream) const override;
  void synchronizeDevice(c10::DeviceIndex) const override;

  void record(void** event, const c10::Stream& stream, c10::DeviceIndex,
              c10::EventFlag) const override;
  void block(void* event, const c10::Stream& stream) const override;
  bool queryEvent(void* event) const override;
  void synchronizeEvent(void* event) const override;
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override;

  void recordDataPtrOnStream(const c10::DataPtr& memory, const c10::Stream& stream) const override;
};

}  // namespace strata::simulated
