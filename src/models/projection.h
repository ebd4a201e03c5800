#pragma once

#include <torch/torch.h>

#include <cstdint>

#include "strata/models/lora_config.h"

namespace strata::models {

/// One of an adapter's matrices.
class AdapterMatrixImpl : public torch::nn::Module {
 public:
  AdapterMatrixImpl(std::int64_t in, std::int64_t out, const torch::TensorOptions& options)
      : weight_(register_parameter("weight", torch::empty({out, in}, options))) {}
  [[nodiscard]] const torch::Tensor& weight() const { return weight_; }

 private:
  torch::Tensor weight_;
};
TORCH_MODULE(AdapterMatrix);

/// A linear layer whose weight is [out, in], with or without bias, and with or without an adapter
/// (lora_config.h).
class ProjectionImpl : public torch::nn::Module {
 public:
  /// `lora`: of its adapter; null: it has none.
  ProjectionImpl(std::int64_t in, std::int64_t out, bool has_bias,
                 const torch::TensorOptions& options, const LoraConfig* lora = nullptr);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  /// What the adapter adds. An adapter that is kept in fp32 computes in it.
  [[nodiscard]] torch::Tensor adapted(const torch::Tensor& x) const;

  torch::Tensor weight_, bias_;
  double dropout_ = 0, scale_ = 0;
  AdapterMatrix lora_a_{nullptr}, lora_b_{nullptr};
};
TORCH_MODULE(Projection);

}  // namespace strata::models
