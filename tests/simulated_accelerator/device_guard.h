#pragma once

#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "simulated_accelerator/live_device.h"

namespace strata::simulated {

/// LibTorch's words for the streams and events of the live device: c10::Stream, c10::Event,
/// c10::StreamGuard and autograd go through it. A stream for each role is all there is: asking for
/// another one is refused.
class DeviceGuard final : public c10::impl::DeviceGuardImplInterface {
 public:
  [[nodiscard]] c10::DeviceType type() const override { return kDeviceType; }
  [[nodiscard]] c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  [[nodiscard]] c10::Device getDevice() const override { return kTorchDevice; }
  c10::Device exchangeDevice(c10::Device) const override { return kTorchDevice; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}

  [[nodiscard]] c10::Stream getStream(c10::Device) const override {
    return stream_of(current_role());
  }
  [[nodiscard]] c10::Stream getDefaultStream(c10::Device) const override {
    return stream_of(StreamRole::kCompute);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    return stream_of(exchange_role(role_of(stream)));
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
