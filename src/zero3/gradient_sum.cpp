#include "zero3/gradient_sum.h"

#include <utility>

namespace strata::zero3 {

void GradientSum::add(const torch::autograd::variable_list& gradients) {
  const torch::NoGradGuard no_grad;
  sums_.resize(gradients.size());
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    if (!gradients[i].defined()) continue;
    if (sums_[i].defined()) {
      sums_[i].add_(gradients[i]);
    } else {
      // A copy even of fp32: two parameters may have been given one and the same tensor.
      sums_[i] = gradients[i].to(torch::kFloat32, /*non_blocking=*/false, /*copy=*/true);
    }
  }
}

torch::autograd::variable_list GradientSum::take() { return std::exchange(sums_, {}); }

}  // namespace strata::zero3
