#include "strata/optim_cpu/convert.h"

#include <algorithm>

#include "optim_cpu/number_values.h"

namespace strata::optim_cpu {
namespace {

void split_bf16(std::span<const float> masters, std::uint16_t* hi, std::int16_t* lo) {
  for (std::size_t i = 0; i < masters.size(); ++i) {
    const HiLo value = split_hi_lo(masters[i]);
    hi[i] = value.hi;
    if (lo != nullptr) lo[i] = value.lo;
  }
}

}  // namespace

// These run when a model is loaded or saved, not in a step: plain loops, left to the compiler.

void split_master(Precision precision, std::span<const float> masters, void* weight, void* master) {
  if (precision == Precision::kBf16)
    return split_bf16(masters, static_cast<std::uint16_t*>(weight),
                      static_cast<std::int16_t*>(master));
  for (std::size_t i = 0; i < masters.size(); ++i) write_value(precision, weight, i, masters[i]);
  if (precision == Precision::kFp16 && master != nullptr)
    std::copy(masters.begin(), masters.end(), static_cast<float*>(master));
}

void join_master(Precision precision, const void* weight, const void* master,
                 std::span<float> masters) {
  if (precision == Precision::kBf16 && master != nullptr) {
    const auto* hi = static_cast<const std::uint16_t*>(weight);
    const auto* lo = static_cast<const std::int16_t*>(master);
    for (std::size_t i = 0; i < masters.size(); ++i) masters[i] = join_hi_lo({hi[i], lo[i]});
  } else if (precision == Precision::kFp16 && master != nullptr) {
    std::copy_n(static_cast<const float*>(master), masters.size(), masters.begin());
  } else {
    for (std::size_t i = 0; i < masters.size(); ++i) masters[i] = read_value(precision, weight, i);
  }
}

}  // namespace strata::optim_cpu
