#include "strata/optim_cpu/convert.h"

#include <algorithm>

#include "optim_cpu/number_values.h"

namespace strata::optim_cpu {
namespace {

/// Half of the part that does not fit into 24 bits: rounds to nearest.
constexpr std::uint32_t kToNearest = 0x80;

void split_bf16(std::span<const float> masters, std::uint16_t* hi, std::int16_t* lo) {
  for (std::size_t i = 0; i < masters.size(); ++i) {
    const HiLo value = split_hi_lo(masters[i]);
    hi[i] = value.hi;
    if (lo != nullptr) lo[i] = value.lo;
  }
}

void split_bf16_24(std::span<const float> masters, std::uint16_t* hi, std::int8_t* lo) {
  for (std::size_t i = 0; i < masters.size(); ++i) {
    const HiLo24 value = split_hi_lo_24(masters[i], kToNearest);
    hi[i] = value.hi;
    lo[i] = value.lo;
  }
}

void join_bf16(const std::uint16_t* hi, const std::int16_t* lo, std::span<float> masters) {
  for (std::size_t i = 0; i < masters.size(); ++i) masters[i] = join_hi_lo({hi[i], lo[i]});
}

void join_bf16_24(const std::uint16_t* hi, const std::int8_t* lo, std::span<float> masters) {
  for (std::size_t i = 0; i < masters.size(); ++i) masters[i] = join_hi_lo_24({hi[i], lo[i]});
}

}  // namespace

// These run when a model is loaded or saved, not in a step: plain loops, left to the compiler.

void split_master(const StateFormat& format, std::span<const float> masters, void* weight,
                  void* master) {
  if (format.precision == Precision::kBf16) {
    auto* hi = static_cast<std::uint16_t*>(weight);
    if (format.master == MasterFormat::k24Bit && master != nullptr)
      return split_bf16_24(masters, hi, static_cast<std::int8_t*>(master));
    return split_bf16(masters, hi, static_cast<std::int16_t*>(master));
  }
  for (std::size_t i = 0; i < masters.size(); ++i)
    write_value(format.precision, weight, i, masters[i]);
  if (format.precision == Precision::kFp16 && master != nullptr)
    std::copy(masters.begin(), masters.end(), static_cast<float*>(master));
}

void join_master(const StateFormat& format, const void* weight, const void* master,
                 std::span<float> masters) {
  const auto* hi = static_cast<const std::uint16_t*>(weight);
  if (format.precision == Precision::kBf16 && master != nullptr) {
    if (format.master == MasterFormat::k24Bit)
      return join_bf16_24(hi, static_cast<const std::int8_t*>(master), masters);
    return join_bf16(hi, static_cast<const std::int16_t*>(master), masters);
  }
  if (format.precision == Precision::kFp16 && master != nullptr) {
    std::copy_n(static_cast<const float*>(master), masters.size(), masters.begin());
    return;
  }
  for (std::size_t i = 0; i < masters.size(); ++i)
    masters[i] = read_value(format.precision, weight, i);
}

}  // namespace strata::optim_cpu
