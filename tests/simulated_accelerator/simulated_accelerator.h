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
/// seeds the generators of all devices too.
///
/// Several may live at once, for ranks that are threads: each has an index, and with it memory,
/// streams, a clock, a generator, and a thread that its backward passes run on. They share nothing;
/// what goes from one to the other goes through the host.
///
/// A program that uses this class has the backend registered before main (device type PrivateUse1,
/// called "simulated"), and so it is for programs of tests alone. Of an index one after the other
/// may live. Tensors of its device must not be read after it; they may be destroyed.
class SimulatedAccelerator {
 public:
  /// Room for small modules that train for a few hundred steps.
  [[nodiscard]] static support::SimDeviceOptions roomy();

  /// Its device is the current one of this thread from now on, until it goes, on the same thread.
  /// Throws UsageError when another one of this index lives, and for an index that is not below
  /// kDevicesMax.
  explicit SimulatedAccelerator(const support::SimDeviceOptions& options = roomy(),
                                c10::DeviceIndex index = 0);
  ~SimulatedAccelerator();
  SimulatedAccelerator(const SimulatedAccelerator&) = delete;
  SimulatedAccelerator& operator=(const SimulatedAccelerator&) = delete;

  [[nodiscard]] support::SimDevice& device() noexcept { return device_; }
  [[nodiscard]] static c10::Device torch_device(c10::DeviceIndex index = 0) noexcept {
    return {kDeviceType, index};
  }
  [[nodiscard]] static c10::Stream stream(StreamRole role, c10::DeviceIndex index = 0) noexcept {
    return stream_of(index, role);
  }

  [[nodiscard]] std::vector<support::Race> races() const { return device_.races(); }
  [[nodiscard]] std::vector<std::string> waits() const { return device_.waits(); }

 private:
  support::SimDevice device_;
  const c10::DeviceIndex index_;
  c10::DeviceIndex current_before_;
};

}  // namespace strata::simulated
