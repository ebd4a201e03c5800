#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include <chrono>

#include "support/sim_device.h"

/// \file
/// The state that the backend's parts share: the live device, and LibTorch's names of its streams.

namespace strata::simulated {

using tiering::DeviceSpan;
using tiering::StreamRole;

inline constexpr c10::DeviceType kDeviceType = c10::DeviceType::PrivateUse1;
inline const c10::Device kTorchDevice{kDeviceType, 0};
inline constexpr std::chrono::seconds kDeadline{60};  ///< deadline of every wait of the host

/// The device that operators run on. LibTorch keeps a backend until the process ends, but every
/// test has a device of its own, so the backend looks up the one that is there now. Throws
/// UsageError where there is none.
[[nodiscard]] support::SimDevice& live_device();
/// Thread: no operator may be under way. Null: there is none from now on.
void set_live_device(support::SimDevice* device) noexcept;

/// The stream of a role; kCompute is LibTorch's default stream.
[[nodiscard]] c10::Stream stream_of(StreamRole role) noexcept;
[[nodiscard]] StreamRole role_of(const c10::Stream& stream) noexcept;

/// The stream that the operators of this thread go to.
[[nodiscard]] StreamRole current_role() noexcept;
/// Returns the one before.
StreamRole exchange_role(StreamRole role) noexcept;

}  // namespace strata::simulated
