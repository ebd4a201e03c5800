#pragma once

#include <torch/torch.h>

#include <cstdint>

#include "models/documents.h"
#include "models/layer_norm.h"
#include "models/projection.h"
#include "models/rotary.h"
#include "strata/models/key_value_cache.h"
#include "strata/models/neox_config.h"

/// \file
/// The modules of a model of GPT-NeoX's kind. Their tree gives the parameters the names that the
/// files have. They have `options`' device and dtype, and undefined values: on the meta device they
/// take no memory.

namespace strata::models {

/// Causal self-attention with rotary positions of some of a head's elements.
class NeoxAttentionImpl : public torch::nn::Module {
 public:
  NeoxAttentionImpl(const NeoxConfig& config, std::int64_t layer,
                    const torch::TensorOptions& options);
  /// `kept`: tokens that go on from those that it keeps; null: sequences from their beginning.
  /// `documents`: those that lie in the rows of such; null: a row is one.
  torch::Tensor forward(const torch::Tensor& x, const KeyValueCache::Part* kept = nullptr,
                        const Documents* documents = nullptr);

 private:
  struct Parts {
    torch::Tensor queries, keys, values;  ///< [B, heads, T, width]
  };
  Parts projected(const torch::Tensor& x);
  [[nodiscard]] torch::Tensor attend(const Parts& parts) const;

  std::int64_t heads_, head_width_;
  double dropout_;
  bool rotates_pairs_;
  Rotary rotary_;
  Projection query_key_value_{nullptr};  ///< or
  Projection q_proj_{nullptr}, k_proj_{nullptr}, v_proj_{nullptr};
  Projection output_;
};
TORCH_MODULE(NeoxAttention);

/// out(gelu(in(x))).
class NeoxMlpImpl : public torch::nn::Module {
 public:
  NeoxMlpImpl(const NeoxConfig& config, std::int64_t layer, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  const char* gelu_;
  Projection in_, out_;
};
TORCH_MODULE(NeoxMlp);

/// One block: x + attention(norm(x)) + mlp(norm(x)), the norms one or two, or mlp after attention.
class NeoxBlockImpl : public torch::nn::Module {
 public:
  NeoxBlockImpl(const NeoxConfig& config, std::int64_t layer, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x, const KeyValueCache::Part* kept = nullptr,
                        const Documents* documents = nullptr);

 private:
  bool parallel_;
  LayerNorm first_norm_;
  LayerNorm second_norm_{nullptr};  ///< empty: the MLP takes what attention takes
  NeoxAttention attention_;
  NeoxMlp mlp_;
};
TORCH_MODULE(NeoxBlock);

}  // namespace strata::models
