#include "models/rounding.h"

namespace strata::models {

namespace {

/// The upper half of the bits, plus one where the lower half is at least a half. Values that are
/// not finite have no lower half worth rounding.
torch::Tensor rounded_to_bf16(const torch::Tensor& masters) {
  const torch::Tensor upper = masters.view(torch::kInt32).add(0x8000).bitwise_right_shift(16);
  const torch::Tensor rounded = upper.to(torch::kInt16).view(torch::kBFloat16);
  return torch::where(masters.isfinite(), rounded, masters.to(torch::kBFloat16));
}

}  // namespace

torch::Tensor rounded_weight(const torch::Tensor& masters, Precision precision) {
  switch (precision) {
    case Precision::kFp32: return masters;
    case Precision::kBf16: return rounded_to_bf16(masters);
    case Precision::kFp16: return masters.to(torch::kFloat16);
  }
  return masters;
}

}  // namespace strata::models
