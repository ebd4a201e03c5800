#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "strata/base/number_format.h"

namespace strata::formats {

/// The number formats of safetensors.
enum class DType : std::uint8_t {
  kBool,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64,
};

/// The name in headers: "F32", "BF16", "F8_E4M3".
[[nodiscard]] std::string_view name_of(DType dtype);
/// Bits of one element; some formats are narrower than a byte.
[[nodiscard]] std::uint64_t bits_of(DType dtype);
[[nodiscard]] std::optional<DType> dtype_from_name(std::string_view name);

/// The format in which a file has the weights of a precision.
[[nodiscard]] DType dtype_of(Precision precision);
/// The format in which a file has a state as it rests: what a bf16 weight lacks of its master are
/// low bits (I16, I8), moments in blocks are U8 with their scales in the codes.
[[nodiscard]] DType dtype_of(const StateFormat& format, StateKind kind,
                             bool accumulate_fp32 = false);

}  // namespace strata::formats
