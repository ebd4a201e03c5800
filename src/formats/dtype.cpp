#include "strata/formats/dtype.h"

#include <array>
#include <cstddef>

namespace strata::formats {
namespace {

struct Format {
  std::string_view name;
  std::uint64_t bits;
};

/// The formats in the order of the enumeration.
constexpr std::array<Format, 22> kFormats = {{
    {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
    {"I64", 64},        {"U64", 64},
}};
static_assert(kFormats.size() == static_cast<std::size_t>(DType::kU64) + 1);

}  // namespace

std::string_view name_of(DType dtype) { return kFormats[static_cast<std::size_t>(dtype)].name; }

std::uint64_t bits_of(DType dtype) { return kFormats[static_cast<std::size_t>(dtype)].bits; }

std::optional<DType> dtype_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kFormats.size(); ++i) {
    if (kFormats[i].name == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

DType dtype_of(Precision precision) {
  switch (precision) {
    case Precision::kFp32: return DType::kF32;
    case Precision::kBf16: return DType::kBF16;
    case Precision::kFp16: return DType::kF16;
  }
  return DType::kF32;
}

DType dtype_of(const StateFormat& format, StateKind kind, bool accumulate_fp32) {
  switch (kind) {
    case StateKind::kWeight: return dtype_of(format.precision);
    case StateKind::kGradient: return accumulate_fp32 ? DType::kF32 : dtype_of(format.precision);
    case StateKind::kMaster:
      if (format.precision == Precision::kFp16) return DType::kF32;
      return format.master == MasterFormat::kFp32 ? DType::kI16 : DType::kI8;
    case StateKind::kM:
    case StateKind::kV: break;
  }
  switch (format.moments) {
    case MomentFormat::kFp32: return DType::kF32;
    case MomentFormat::kBf16: return DType::kBF16;
    case MomentFormat::kInt8: return DType::kU8;
  }
  return DType::kF32;
}

}  // namespace strata::formats
