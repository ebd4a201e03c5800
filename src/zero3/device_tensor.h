#pragma once

#include <torch/torch.h>

#include "strata/tiering/device_span.h"

namespace strata::zero3 {

/// LibTorch's view of `span`: a row of numbers of `type` that owns nothing.
inline torch::Tensor tensor_over(tiering::DeviceSpan span, torch::ScalarType type,
                                 c10::Device device) {
  const auto count = static_cast<std::int64_t>(span.bytes() / c10::elementSize(type));
  return torch::from_blob(reinterpret_cast<void*>(span.address()), {count},
                          torch::TensorOptions(type).device(device));
}

}  // namespace strata::zero3
