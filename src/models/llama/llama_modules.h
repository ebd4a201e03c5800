#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <optional>
#include <utility>

#include "models/documents.h"
#include "models/expert_units.h"
#include "models/projection.h"
#include "models/rotary.h"
#include "strata/models/attention_scores.h"
#include "strata/models/key_value_cache.h"
#include "strata/models/llama_config.h"

/// \file
/// The modules of a model of Llama's kind. Their tree gives the parameters the names that
/// transformers gives them. They have `options`' device and dtype, and undefined values: on the
/// meta device they take no memory.

namespace strata::models {

/// x / sqrt(mean(x^2) + epsilon) over the last dimension in fp32, and times a weight.
class RmsNormImpl : public torch::nn::Module {
 public:
  enum class Product {
    kAfterRounding,  ///< rounded to the format of x before
    kInFp32,
    kByOneMore,  ///< by 1 + weight, in fp32
  };
  RmsNormImpl(std::int64_t width, double epsilon, Product product,
              const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  double epsilon_;
  Product product_;
  torch::Tensor weight_;
};
TORCH_MODULE(RmsNorm);

/// The norm over so many elements that a model of this config has.
[[nodiscard]] RmsNorm rms_norm(const LlamaConfig& config, std::int64_t width,
                               const torch::TensorOptions& options);

/// Causal self-attention with rotary positions, in which several heads of queries may share one of
/// keys and values (Ainslie et al. 2023, "GQA").
class LlamaAttentionImpl : public torch::nn::Module {
 public:
  LlamaAttentionImpl(const LlamaConfig& config, std::int64_t layer,
                     const torch::TensorOptions& options);
  /// `kept`: tokens that go on from those that it keeps; null: sequences from their beginning.
  /// `documents`: those that lie in the rows of such; null: a row is one.
  torch::Tensor forward(const torch::Tensor& x, const KeyValueCache::Part* kept = nullptr,
                        const Documents* documents = nullptr);

 private:
  struct Parts {
    torch::Tensor queries, keys, values;
  };
  /// What is projected of x, [B, T, heads * width] each.
  Parts projected(const torch::Tensor& x);
  /// Queries or keys of so many heads, normed: [B, heads, T, width].
  torch::Tensor normed(const torch::Tensor& projected, std::int64_t heads, RmsNorm& norm) const;
  [[nodiscard]] torch::Tensor in_heads(const torch::Tensor& x, std::int64_t heads) const;
  /// Of queries [B, heads, T, width], and keys and values of fewer heads.
  [[nodiscard]] torch::Tensor attend(const Parts& parts) const;

  std::int64_t heads_, key_heads_, head_width_;
  std::optional<std::int64_t> window_;
  double dropout_;
  AttentionScores scores_;
  std::optional<Rotary> rotary_;  ///< empty: positions do not rotate
  bool rotates_in_fp32_, norms_all_heads_;
  Projection q_proj_{nullptr}, k_proj_{nullptr}, v_proj_{nullptr};  ///< or
  Projection qkv_proj_{nullptr};
  Projection o_proj_{nullptr};
  RmsNorm q_norm_{nullptr}, k_norm_{nullptr};  ///< empty: there are none
};
TORCH_MODULE(LlamaAttention);

/// down(silu(gate(x)) * up(x)), or GELU in the place of SiLU.
class LlamaMlpImpl : public torch::nn::Module {
 public:
  LlamaMlpImpl(const LlamaConfig& config, std::int64_t layer, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  bool uses_gelu_;
  Projection gate_proj_{nullptr}, up_proj_{nullptr};  ///< or
  Projection gate_up_proj_{nullptr};
  Projection down_proj_{nullptr};
};
TORCH_MODULE(LlamaMlp);

/// Says which experts a token goes through: those of the largest softmax of a linear layer, with
/// it as their weights, as it is or so that they add up to 1.
class LlamaRouterImpl : public torch::nn::Module {
 public:
  LlamaRouterImpl(const LlamaConfig& config, const torch::TensorOptions& options);
  /// Weights and experts, [..., k] each, of x [..., width].
  std::pair<torch::Tensor, torch::Tensor> forward(const torch::Tensor& x);

 private:
  std::int64_t each_;
  bool norms_weights_, in_fp32_;
  Projection gate_;
};
TORCH_MODULE(LlamaRouter);

/// One block: x + attention(x), then x + mlp(x), with norms of what goes into each, of what comes
/// out, or of both. In the place of the MLP there may be a router to experts, which are no part of
/// it.
class LlamaBlockImpl : public torch::nn::Module {
 public:
  LlamaBlockImpl(const LlamaConfig& config, std::int64_t layer,
                 const torch::TensorOptions& options);
  torch::Tensor forward(torch::Tensor x, const KeyValueCache::Part* kept = nullptr,
                        const Documents* documents = nullptr);
  /// Of one that has a router: what goes on to its experts.
  Routed route(const torch::Tensor& x, const KeyValueCache::Part* kept, const Documents* documents);

 private:
  /// x + attention(x).
  torch::Tensor attended_to(const torch::Tensor& x, const KeyValueCache::Part* kept,
                            const Documents* documents);

  LlamaAttention self_attn_;
  LlamaMlp mlp_{nullptr};  ///< or
  LlamaRouter router_{nullptr};
  // Empty: that is not normed.
  RmsNorm before_attention_{nullptr}, after_attention_{nullptr}, before_mlp_{nullptr},
      after_mlp_{nullptr};
};
TORCH_MODULE(LlamaBlock);

}  // namespace strata::models
