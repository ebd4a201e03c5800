#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include <chrono>
#include <optional>

#include "support/sim_device.h"

/// \file
/// The state that the backend's parts share: the live devices, and LibTorch's names of their
/// streams.

namespace strata::simulated {

using tiering::DeviceSpan;
using tiering::StreamRole;

inline constexpr c10::DeviceType kDeviceType = c10::DeviceType::PrivateUse1;
inline const c10::Device kTorchDevice{kDeviceType, 0};  ///< the first device
/// Devices that LibTorch counts, whether they live or not: it asks once, before the first backward,
/// and runs that of each on a thread of its own.
inline constexpr c10::DeviceIndex kDevicesMax = 4;
inline constexpr std::chrono::seconds kDeadline{60};  ///< deadline of every wait of the host

/// The device that is current on this thread, as LibTorch has it.
[[nodiscard]] c10::DeviceIndex current_index() noexcept;
/// Returns the one before.
c10::DeviceIndex exchange_index(c10::DeviceIndex index) noexcept;
/// The index of a device, or the current one where it names none.
[[nodiscard]] c10::DeviceIndex index_of(c10::Device device) noexcept;

/// Makes a device the current one for the length of a scope.
class CurrentDevice {
 public:
  explicit CurrentDevice(c10::Device device) : before_(exchange_index(index_of(device))) {}
  ~CurrentDevice() { exchange_index(before_); }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  c10::DeviceIndex before_;
};

/// The device of this index that operators run on. LibTorch keeps a backend until the process ends,
/// but every test has devices of its own, so the backend looks up the one that is there now. Throws
/// UsageError where there is none.
[[nodiscard]] support::SimDevice& live_device(c10::DeviceIndex index);
/// The current one.
[[nodiscard]] support::SimDevice& live_device();
/// Whether there is one. Throws UsageError for an index that LibTorch does not count.
[[nodiscard]] bool is_live(c10::DeviceIndex index);
/// Thread: no operator of this index may be under way. Null: there is none from now on.
void set_live_device(c10::DeviceIndex index, support::SimDevice* device) noexcept;
/// The device that gave memory at this address, if one did.
[[nodiscard]] std::optional<c10::DeviceIndex> owner_of(const void* address) noexcept;

/// The stream of a role; kCompute is LibTorch's default stream.
[[nodiscard]] c10::Stream stream_of(c10::DeviceIndex index, StreamRole role) noexcept;
[[nodiscard]] StreamRole role_of(const c10::Stream& stream) noexcept;

/// The stream of a device that the operators of this thread go to.
[[nodiscard]] StreamRole current_role(c10::DeviceIndex index) noexcept;
/// That of the current device.
[[nodiscard]] StreamRole current_role() noexcept;
/// Returns the one before.
StreamRole exchange_role(c10::DeviceIndex index, StreamRole role) noexcept;

}  // namespace strata::simulated
