#pragma once

#include <ATen/core/Tensor.h>

#include "simulated_accelerator/live_device.h"

namespace strata::simulated {

[[nodiscard]] inline bool is_on_device(const at::Tensor& tensor) {
  return tensor.defined() && tensor.device().type() == kDeviceType;
}

/// The addresses from the first element to the last, with what lies between them; none for a tensor
/// without elements. Throws what the storage throws when it refuses to be read, and UsageError for
/// memory that the device did not give.
[[nodiscard]] support::SimDevice::Ranges addresses_of(const at::Tensor& tensor);

/// The elements of a tensor of the device, as a tensor of the CPU for functions that run on
/// streams. It means the bytes that the storage names now, as a kernel is launched with pointers:
/// the storage may name others before the function runs. It keeps nothing alive.
[[nodiscard]] at::Tensor touchable(const at::Tensor& tensor);

/// A new tensor of the current device with the sizes, strides and type of `like`.
[[nodiscard]] at::Tensor empty_on_device(const at::Tensor& like);

}  // namespace strata::simulated
