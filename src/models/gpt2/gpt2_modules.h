#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "models/documents.h"
#include "models/layer_norm.h"
#include "models/vocabulary_modules.h"
#include "strata/models/gpt2_config.h"
#include "strata/models/key_value_cache.h"

/// \file
/// GPT-2's modules. Their tree gives the parameters the names that transformers gives them. They
/// have `options`' device and dtype, and undefined values: on the meta device they take no memory.

namespace strata::models {

/// A linear layer whose weight is [in, out]: GPT-2 was written with convolutions of length 1.
class Conv1DImpl : public torch::nn::Module {
 public:
  Conv1DImpl(std::int64_t in, std::int64_t out, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  torch::Tensor weight_, bias_;
};
TORCH_MODULE(Conv1D);

/// What attention computes between its two linear layers: of queries, keys and values [B, T, 3
/// width] side by side, [B, T, width]. No position looks at a later one. `kept`: tokens that go on
/// from those that it keeps; null: sequences from their beginning. `documents`: those that lie in
/// the rows of such; null: a row is one.
[[nodiscard]] torch::Tensor causal_attention(const torch::Tensor& qkv, std::int64_t heads,
                                             double dropout,
                                             const KeyValueCache::Part* kept = nullptr,
                                             const Documents* documents = nullptr);

/// The function between the two linear layers of the MLP.
[[nodiscard]] torch::Tensor activated(const torch::Tensor& x, Gpt2Config::Activation activation);

/// Causal self-attention.
class AttentionImpl : public torch::nn::Module {
 public:
  AttentionImpl(const Gpt2Config& config, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x, const KeyValueCache::Part* kept = nullptr,
                        const Documents* documents = nullptr);

 private:
  std::int64_t n_head_;
  double attn_pdrop_, resid_pdrop_;
  Conv1D c_attn_, c_proj_;
};
TORCH_MODULE(Attention);

class MlpImpl : public torch::nn::Module {
 public:
  MlpImpl(const Gpt2Config& config, const torch::TensorOptions& options);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  Gpt2Config::Activation activation_;
  double resid_pdrop_;
  Conv1D c_fc_, c_proj_;
};
TORCH_MODULE(Mlp);

/// One block: x + attention(norm(x)), then x + mlp(norm(x)).
class Gpt2BlockImpl : public torch::nn::Module {
 public:
  Gpt2BlockImpl(const Gpt2Config& config, const torch::TensorOptions& options);
  torch::Tensor forward(torch::Tensor x, const KeyValueCache::Part* kept = nullptr,
                        const Documents* documents = nullptr);

 private:
  LayerNorm ln_1_;
  Attention attn_;
  LayerNorm ln_2_;
  Mlp mlp_;
};
TORCH_MODULE(Gpt2Block);

/// What is left of a block whose linear layers are in tiles: its norms, and what has no parameters.
/// Tensors of a list are in the order in which they are named.
class Gpt2BlockRestImpl : public torch::nn::Module {
 public:
  using Tensors = std::vector<torch::Tensor>;

  Gpt2BlockRestImpl(const Gpt2Config& config, const torch::TensorOptions& options);
  // With its parameters:
  /// Of x: x and what goes into attention.
  Tensors begin(const torch::Tensor& x);
  /// Of x and what attention adds to it: their sum and what goes into the MLP.
  Tensors middle(const torch::Tensor& x, const torch::Tensor& attended);
  // Without:
  [[nodiscard]] torch::Tensor attend(const torch::Tensor& qkv,
                                     const KeyValueCache::Part* kept = nullptr,
                                     const Documents* documents = nullptr) const;
  [[nodiscard]] torch::Tensor activate(const torch::Tensor& hidden) const;
  /// x and what a linear layer back into the residual stream adds to it.
  [[nodiscard]] torch::Tensor add(const torch::Tensor& x, const torch::Tensor& projected) const;

 private:
  std::int64_t n_head_;
  Gpt2Config::Activation activation_;
  double attn_pdrop_, resid_pdrop_;
  LayerNorm ln_1_, ln_2_;
};
TORCH_MODULE(Gpt2BlockRest);

/// Where the tables of the vocabulary are: in the module that holds what is outside of the blocks,
/// or in tiles of their own.
enum class Vocabulary { kWhole, kInTiles };

/// The parts outside of the blocks: the embeddings before them, the last norm and the head after
/// them. One module, because a tied head is the token embedding.
class Gpt2OuterImpl : public torch::nn::Module {
 public:
  Gpt2OuterImpl(const Gpt2Config& config, Vocabulary vocabulary,
                const torch::TensorOptions& options);
  /// Adds positions to the rows [B, T, n_embd] of tokens: those at `places` [B, T], or counted from
  /// the first token where they are undefined.
  torch::Tensor add_positions(const torch::Tensor& rows, const torch::Tensor& places = {});
  /// The last norm.
  torch::Tensor norm(const torch::Tensor& x);

  // With the whole vocabulary:
  /// Maps tokens [B, T] to [B, T, n_embd].
  torch::Tensor embed(const torch::Tensor& tokens, const torch::Tensor& places = {});
  /// Maps [..., n_embd] to logits [..., vocab_size].
  torch::Tensor logits(const torch::Tensor& x);
  /// The mean cross entropy (fp32 scalar) of logits(x) against targets [...], as
  /// linear_cross_entropy has it.
  torch::Tensor loss(const torch::Tensor& x, const torch::Tensor& targets,
                     std::optional<double> divisor);

 private:
  [[nodiscard]] const torch::Tensor& head() const;

  double embd_pdrop_;
  Table wte_{nullptr}, wpe_{nullptr};
  LayerNorm ln_f_{nullptr};
  Table lm_head_{nullptr};  ///< empty: tied to wte_
};
TORCH_MODULE(Gpt2Outer);

}  // namespace strata::models
