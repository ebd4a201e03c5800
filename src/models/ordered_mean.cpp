#include "models/ordered_mean.h"

#include <cstddef>
#include <span>

namespace strata::models {

torch::Tensor mean_in_order(const torch::Tensor& row_losses, double divisor) {
  const torch::Tensor on_host = row_losses.cpu();
  double sum = 0.0;
  for (const float loss :
       std::span(on_host.const_data_ptr<float>(), static_cast<std::size_t>(on_host.numel()))) {
    sum += loss;
  }
  return torch::full({}, sum / divisor, row_losses.options());
}

}  // namespace strata::models
