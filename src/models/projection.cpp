#include "models/projection.h"

namespace strata::models {

using torch::Tensor;

ProjectionImpl::ProjectionImpl(std::int64_t in, std::int64_t out, bool has_bias,
                               const torch::TensorOptions& options, const LoraConfig* lora)
    : weight_(register_parameter("weight", torch::empty({out, in}, options))) {
  if (has_bias) bias_ = register_parameter("bias", torch::empty({out}, options));
  if (lora == nullptr) return;
  dropout_ = lora->dropout;
  scale_ = lora->scale();
  lora_a_ = register_module(kLoraA, AdapterMatrix(in, lora->rank, options));
  lora_b_ = register_module(kLoraB, AdapterMatrix(lora->rank, out, options));
}

Tensor ProjectionImpl::forward(const Tensor& x) {
  const Tensor y = torch::linear(x, weight_, bias_);
  return lora_a_ ? (y + adapted(x)).to(y.scalar_type()) : y;
}

Tensor ProjectionImpl::adapted(const Tensor& x) const {
  const Tensor& a = lora_a_->weight();
  Tensor in = x.to(a.scalar_type());
  if (dropout_ > 0) in = torch::dropout(in, dropout_, is_training());
  return torch::linear(torch::linear(in, a), lora_b_->weight()) * scale_;
}

}  // namespace strata::models
