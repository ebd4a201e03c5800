#include "models/gpt2/gpt2_modules.h"

#include "models/attention.h"
#include "models/linear_cross_entropy.h"

namespace strata::models {

Conv1DImpl::Conv1DImpl(std::int64_t in, std::int64_t out, const torch::TensorOptions& options)
    : weight_(register_parameter("weight", torch::empty({in, out}, options))),
      bias_(register_parameter("bias", torch::empty({out}, options))) {}

torch::Tensor Conv1DImpl::forward(const torch::Tensor& x) {
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.back() = weight_.size(1);
  return torch::addmm(bias_, x.reshape({-1, x.size(-1)}), weight_).view(shape);
}

torch::Tensor causal_attention(const torch::Tensor& qkv, std::int64_t heads, double dropout,
                               const KeyValueCache::Part* kept, const Documents* documents) {
  const std::int64_t batch = qkv.size(0), length = qkv.size(1), width = qkv.size(2) / 3;
  const auto heads_first = [&](const torch::Tensor& part) {
    return part.view({batch, length, heads, width / heads}).transpose(1, 2);
  };
  const std::vector<torch::Tensor> parts = qkv.split(width, /*dim=*/2);
  const torch::Tensor queries = heads_first(parts[0]), keys = heads_first(parts[1]),
                      values = heads_first(parts[2]);
  const auto attend = [dropout](const torch::Tensor& q, const torch::Tensor& k,
                                const torch::Tensor& v) {
    return attention(q, k, v, /*mask=*/{}, dropout, {});
  };
  return attended(kept, documents, queries, keys, values, attend)
      .transpose(1, 2)
      .reshape({batch, length, width});
}

torch::Tensor activated(const torch::Tensor& x, Gpt2Config::Activation activation) {
  return torch::gelu(x, activation == Gpt2Config::Activation::kGeluTanh ? "tanh" : "none");
}

AttentionImpl::AttentionImpl(const Gpt2Config& config, const torch::TensorOptions& options)
    : n_head_(config.n_head),
      attn_pdrop_(config.attn_pdrop),
      resid_pdrop_(config.resid_pdrop),
      c_attn_(register_module("c_attn", Conv1D(config.n_embd, 3 * config.n_embd, options))),
      c_proj_(register_module("c_proj", Conv1D(config.n_embd, config.n_embd, options))) {}

torch::Tensor AttentionImpl::forward(const torch::Tensor& x, const KeyValueCache::Part* kept,
                                     const Documents* documents) {
  const torch::Tensor attended =
      causal_attention(c_attn_(x), n_head_, is_training() ? attn_pdrop_ : 0.0, kept, documents);
  return torch::dropout(c_proj_(attended), resid_pdrop_, is_training());
}

MlpImpl::MlpImpl(const Gpt2Config& config, const torch::TensorOptions& options)
    : activation_(config.activation),
      resid_pdrop_(config.resid_pdrop),
      c_fc_(register_module("c_fc", Conv1D(config.n_embd, config.inner(), options))),
      c_proj_(register_module("c_proj", Conv1D(config.inner(), config.n_embd, options))) {}

torch::Tensor MlpImpl::forward(const torch::Tensor& x) {
  const torch::Tensor hidden = activated(c_fc_(x), activation_);
  return torch::dropout(c_proj_(hidden), resid_pdrop_, is_training());
}

Gpt2BlockImpl::Gpt2BlockImpl(const Gpt2Config& config, const torch::TensorOptions& options)
    : ln_1_(register_module("ln_1", LayerNorm(config.n_embd, config.layer_norm_epsilon, options))),
      attn_(register_module("attn", Attention(config, options))),
      ln_2_(register_module("ln_2", LayerNorm(config.n_embd, config.layer_norm_epsilon, options))),
      mlp_(register_module("mlp", Mlp(config, options))) {}

torch::Tensor Gpt2BlockImpl::forward(torch::Tensor x, const KeyValueCache::Part* kept,
                                     const Documents* documents) {
  x = x + attn_(ln_1_(x), kept, documents);
  return x + mlp_(ln_2_(x));
}

Gpt2BlockRestImpl::Gpt2BlockRestImpl(const Gpt2Config& config, const torch::TensorOptions& options)
    : n_head_(config.n_head),
      activation_(config.activation),
      attn_pdrop_(config.attn_pdrop),
      resid_pdrop_(config.resid_pdrop),
      ln_1_(register_module("ln_1", LayerNorm(config.n_embd, config.layer_norm_epsilon, options))),
      ln_2_(register_module("ln_2", LayerNorm(config.n_embd, config.layer_norm_epsilon, options))) {
}

std::vector<torch::Tensor> Gpt2BlockRestImpl::begin(const torch::Tensor& x) {
  return {x, ln_1_(x)};
}

std::vector<torch::Tensor> Gpt2BlockRestImpl::middle(const torch::Tensor& x,
                                                     const torch::Tensor& attended) {
  const torch::Tensor sum = add(x, attended);
  return {sum, ln_2_(sum)};
}

torch::Tensor Gpt2BlockRestImpl::attend(const torch::Tensor& qkv, const KeyValueCache::Part* kept,
                                        const Documents* documents) const {
  return causal_attention(qkv, n_head_, is_training() ? attn_pdrop_ : 0.0, kept, documents);
}

torch::Tensor Gpt2BlockRestImpl::activate(const torch::Tensor& hidden) const {
  return activated(hidden, activation_);
}

torch::Tensor Gpt2BlockRestImpl::add(const torch::Tensor& x, const torch::Tensor& projected) const {
  return x + torch::dropout(projected, resid_pdrop_, is_training());
}

Gpt2OuterImpl::Gpt2OuterImpl(const Gpt2Config& config, Vocabulary vocabulary,
                             const torch::TensorOptions& options)
    : embd_pdrop_(config.embd_pdrop) {
  const bool is_whole = vocabulary == Vocabulary::kWhole;
  const auto table = [&](std::int64_t rows) { return Table(rows, config.n_embd, options); };
  if (is_whole) wte_ = register_module("wte", table(config.vocab_size));
  wpe_ = register_module("wpe", table(config.n_positions));
  ln_f_ = register_module("ln_f", LayerNorm(config.n_embd, config.layer_norm_epsilon, options));
  if (is_whole && !config.tie_word_embeddings) {
    lm_head_ = register_module("lm_head", table(config.vocab_size));
  }
}

torch::Tensor Gpt2OuterImpl::add_positions(const torch::Tensor& rows, const torch::Tensor& places) {
  const torch::Tensor positions =
      places.defined()
          ? places
          : torch::arange(rows.size(1), rows.options().dtype(torch::kInt64).requires_grad(false));
  return torch::dropout(rows + wpe_(positions), embd_pdrop_, is_training());
}

torch::Tensor Gpt2OuterImpl::norm(const torch::Tensor& x) { return ln_f_(x); }

torch::Tensor Gpt2OuterImpl::embed(const torch::Tensor& tokens, const torch::Tensor& places) {
  return add_positions(wte_(tokens), places);
}

torch::Tensor Gpt2OuterImpl::logits(const torch::Tensor& x) {
  return torch::linear(ln_f_(x), head());
}

torch::Tensor Gpt2OuterImpl::loss(const torch::Tensor& x, const torch::Tensor& targets,
                                  std::optional<double> divisor) {
  return linear_cross_entropy(ln_f_(x).flatten(0, -2), head(), targets.flatten(), std::nullopt,
                              std::nullopt, {}, divisor);
}

const torch::Tensor& Gpt2OuterImpl::head() const { return (lm_head_ ? lm_head_ : wte_)->weight(); }

}  // namespace strata::models
