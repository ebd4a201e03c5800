#pragma once

#include <cstddef>

#include "optim_cpu/number_conversions.h"
#include "strata/base/number_format.h"

namespace strata::optim_cpu {

/// Element `i` of numbers in the weight format of `format`.
[[nodiscard]] inline float read_value(Precision format, const void* values, std::size_t i) {
  if (format == Precision::kFp32) return static_cast<const float*>(values)[i];
  const std::uint16_t value = static_cast<const std::uint16_t*>(values)[i];
  return format == Precision::kBf16 ? from_bf16(value) : from_fp16(value);
}

/// Rounds to nearest, ties to even.
inline void write_value(Precision format, void* values, std::size_t i, float value) {
  if (format == Precision::kFp32)
    static_cast<float*>(values)[i] = value;
  else
    static_cast<std::uint16_t*>(values)[i] =
        format == Precision::kBf16 ? to_bf16(value) : to_fp16(value);
}

}  // namespace strata::optim_cpu
