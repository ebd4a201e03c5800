#pragma once

#include <vector>

#include "simulated_accelerator/live_device.h"

namespace strata::simulated {

/// An accelerator that LibTorch computes on, over a SimDevice: tensors of `torch_device()` lie in
/// its memory, operators are done on its streams with the bits of the CPU, c10::Event is its event,
/// and its clock is told of all. What the test puts on the SimDevice itself and what LibTorch puts
/// there are ordered by the same events.
///
///     SimulatedAccelerator accelerator({.capacity_bytes = 1_GiB, .address_space_bytes = 16_GiB});
///     module->to(accelerator.torch_device());
///     ...
///     EXPECT_THAT(accelerator.races(), IsEmpty());
///
/// LibTorch's default stream is StreamRole::kCompute; `stream` has the others. Operators of a
/// stream other than the current one need events between them, as on any device. torch::manual_seed
/// seeds the device's generator too.
///
/// A program that uses this class has the backend registered before main (device type PrivateUse1,
/// called "simulated"), and so it is for programs of tests alone. One after the other may live, not
/// two at once. Tensors of its device must not be read after it; they may be destroyed.
class SimulatedAccelerator {
 public:
  /// Room for small modules that train for a few hundred steps.
  [[nodiscard]] static support::SimDeviceOptions roomy();

  /// Throws UsageError when another one lives.
  explicit SimulatedAccelerator(const support::SimDeviceOptions& options = roomy());
  ~SimulatedAccelerator();
  SimulatedAccelerator(const SimulatedAccelerator&) = delete;
  SimulatedAccelerator& operator=(const SimulatedAccelerator&) = delete;

  [[nodiscard]] support::SimDevice& device() noexcept { return device_; }
  [[nodiscard]] static c10::Device torch_device() noexcept { return kTorchDevice; }
  [[nodiscard]] static c10::Stream stream(StreamRole role) noexcept { return stream_of(role); }

  [[nodiscard]] std::vector<support::Race> races() const { return device_.races(); }
  [[nodiscard]] std::vector<std::string> waits() const { return device_.waits(); }

 private:
  support::SimDevice device_;
};

}  // namespace strata::simulated
