#include "models/layer_norm.h"

namespace strata::models {

LayerNormImpl::LayerNormImpl(std::int64_t width, double epsilon,
                             const torch::TensorOptions& options)
    : epsilon_(epsilon),
      weight_(register_parameter("weight", torch::empty({width}, options))),
      bias_(register_parameter("bias", torch::empty({width}, options))) {}

torch::Tensor LayerNormImpl::forward(const torch::Tensor& x) {
  return torch::layer_norm(x, weight_.sizes(), weight_, bias_, epsilon_);
}

}  // namespace strata::models
