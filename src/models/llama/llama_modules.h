#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <optional>

#include "models/llama/rotary.h"
#include "strata/models/key_value_cache.h"
#include "strata/models/llama_config.h"

/// \file
/// The modules of a model of Llama's kind. Their tree gives the parameters the names that
/// transformers gives them. They have `options`' device and dtype, and undefined values: on the
/// meta device they take no memory.

namespace strata::models {

/// x / sqrt(mean(x^2) + epsilon) over the last dimension in fp32, rounded, and then times a weight.
class RmsNormImpl : public torch::nn::Module {
 public:
  RmsNormImpl(std::int64_t width, double epsilon, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  double epsilon_;
  torch::Tensor weight_;
};
TORCH_MODULE(RmsNorm);

/// A linear layer whose weight is [out, in], with or without bias.
class ProjectionImpl : public torch::nn::Module {
 public:
  ProjectionImpl(std::int64_t in, std::int64_t out, bool has_bias,
                 const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  torch::Tensor weight_, bias_;
};
TORCH_MODULE(Projection);

/// Causal self-attention with rotary positions, in which several heads of queries may share one of
/// keys and values (Ainslie et al. 2023, "GQA").
class LlamaAttentionImpl : public torch::nn::Module {
 public:
  LlamaAttentionImpl(const LlamaConfig& config, std::int64_t layer,
                     const torch::TensorOptions& options);
  /// `kept`: tokens that go on from those that it keeps; null: sequences from their beginning.
  torch::Tensor forward(const torch::Tensor& x, const KeyValueCache::Part* kept = nullptr);

 private:
  /// Of queries [B, heads, T, width], and keys and values of fewer heads.
  torch::Tensor attend(const torch::Tensor& queries, const torch::Tensor& keys,
                       const torch::Tensor& values) const;

  std::int64_t heads_, key_heads_, head_width_;
  std::optional<std::int64_t> window_;
  double dropout_;
  Rotary rotary_;
  Projection q_proj_, k_proj_, v_proj_, o_proj_;
  RmsNorm q_norm_{nullptr}, k_norm_{nullptr};  ///< empty: there are none
};
TORCH_MODULE(LlamaAttention);

/// down(silu(gate(x)) * up(x)).
class LlamaMlpImpl : public torch::nn::Module {
 public:
  LlamaMlpImpl(const LlamaConfig& config, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  Projection gate_proj_, up_proj_, down_proj_;
};
TORCH_MODULE(LlamaMlp);

/// One block: x + attention(norm(x)), then x + mlp(norm(x)).
class LlamaBlockImpl : public torch::nn::Module {
 public:
  LlamaBlockImpl(const LlamaConfig& config, std::int64_t layer,
                 const torch::TensorOptions& options);
  torch::Tensor forward(torch::Tensor x, const KeyValueCache::Part* kept = nullptr);

 private:
  LlamaAttention self_attn_;
  LlamaMlp mlp_;
  RmsNorm input_layernorm_, post_attention_layernorm_;
};
TORCH_MODULE(LlamaBlock);

/// Which tokens each of T tokens looks at, [T, T]: the last `window` up to itself.
[[nodiscard]] torch::Tensor window_mask(std::int64_t tokens, std::int64_t window,
                                        const torch::Device& device);

}  // namespace strata::models
