#include "models/projection.h"

namespace strata::models {

using torch::Tensor;

ProjectionImpl::ProjectionImpl(std::int64_t in, std::int64_t out, bool has_bias,
                               const torch::TensorOptions& options)
    : weight_(register_parameter("weight", torch::empty({out, in}, options))) {
  if (has_bias) bias_ = register_parameter("bias", torch::empty({out}, options));
}

Tensor ProjectionImpl::forward(const Tensor& x) { return torch::linear(x, weight_, bias_); }

}  // namespace strata::models
