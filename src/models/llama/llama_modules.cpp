#include "models/llama/llama_modules.h"

namespace strata::models {

using torch::Tensor;

namespace {

/// Keys or values [B, heads, T, width], each head once for every head of queries that shares it.
Tensor shared_by(const Tensor& x, std::int64_t query_heads) {
  const std::int64_t each = query_heads / x.size(1);
  if (each == 1) return x;
  return x.unsqueeze(2)
      .expand({x.size(0), x.size(1), each, x.size(2), x.size(3)})
      .reshape({x.size(0), query_heads, x.size(2), x.size(3)});
}

}  // namespace

RmsNormImpl::RmsNormImpl(std::int64_t width, double epsilon, const torch::TensorOptions& options)
    : epsilon_(epsilon), weight_(register_parameter("weight", torch::empty({width}, options))) {}

Tensor RmsNormImpl::forward(const Tensor& x) {
  const Tensor wide = x.to(torch::kFloat32);
  const Tensor variance = wide.square().mean(-1, /*keepdim=*/true);
  const Tensor normed = (wide * torch::rsqrt(variance + epsilon_)).to(x.scalar_type());
  return (weight_ * normed).to(x.scalar_type());  // the weight may be kept in fp32
}

ProjectionImpl::ProjectionImpl(std::int64_t in, std::int64_t out, bool has_bias,
                               const torch::TensorOptions& options)
    : weight_(register_parameter("weight", torch::empty({out, in}, options))) {
  if (has_bias) bias_ = register_parameter("bias", torch::empty({out}, options));
}

Tensor ProjectionImpl::forward(const Tensor& x) { return torch::linear(x, weight_, bias_); }

LlamaAttentionImpl::LlamaAttentionImpl(const LlamaConfig& config, std::int64_t layer,
                                       const torch::TensorOptions& options)
    : heads_(config.num_attention_heads),
      key_heads_(config.num_key_value_heads),
      head_width_(config.head_width()),
      window_(config.window_of(layer)),
      dropout_(config.attention_dropout),
      rotary_(config.rope, head_width_),
      q_proj_(register_module("q_proj", Projection(config.hidden_size, config.query_width(),
                                                   config.qkv_bias, options))),
      k_proj_(register_module(
          "k_proj", Projection(config.hidden_size, config.key_width(), config.qkv_bias, options))),
      v_proj_(register_module(
          "v_proj", Projection(config.hidden_size, config.key_width(), config.qkv_bias, options))),
      o_proj_(register_module("o_proj", Projection(config.query_width(), config.hidden_size,
                                                   config.output_bias, options))) {
  if (!config.qk_norm) return;
  q_norm_ = register_module("q_norm", RmsNorm(head_width_, config.rms_norm_eps, options));
  k_norm_ = register_module("k_norm", RmsNorm(head_width_, config.rms_norm_eps, options));
}

Tensor LlamaAttentionImpl::forward(const Tensor& x, const KeyValueCache::Part* kept) {
  const std::int64_t batch = x.size(0), length = x.size(1);
  const auto in_heads = [&](const Tensor& projected, std::int64_t heads, RmsNorm& norm) {
    const Tensor parts = projected.view({batch, length, heads, head_width_});
    return (norm ? norm(parts) : parts).transpose(1, 2);
  };
  RmsNorm none{nullptr};
  const auto [cosines, sines] =
      kept != nullptr ? rotary_.at(kept->places(), x) : rotary_.of(length, x);
  const Tensor queries = rotated(in_heads(q_proj_(x), heads_, q_norm_), cosines, sines);
  const Tensor keys = rotated(in_heads(k_proj_(x), key_heads_, k_norm_), cosines, sines);
  const Tensor values = in_heads(v_proj_(x), key_heads_, none);
  Tensor attended;
  if (kept == nullptr) {
    attended = attend(queries, keys, values);
  } else if (kept->is_first()) {
    kept->extend(keys, values);
    attended = attend(queries, keys, values);
  } else {
    attended = attend_to_kept(*kept, queries, keys, values, window_.value_or(0));
  }
  return o_proj_(attended.transpose(1, 2).reshape({batch, length, heads_ * head_width_}));
}

Tensor LlamaAttentionImpl::attend(const Tensor& queries, const Tensor& keys,
                                  const Tensor& values) const {
  const std::int64_t length = queries.size(2);
  const bool slides = window_ && *window_ < length;
  return at::scaled_dot_product_attention(
      queries, shared_by(keys, heads_), shared_by(values, heads_),
      slides ? std::make_optional(window_mask(length, *window_, queries.device())) : std::nullopt,
      is_training() ? dropout_ : 0.0, /*is_causal=*/!slides);
}

LlamaMlpImpl::LlamaMlpImpl(const LlamaConfig& config, const torch::TensorOptions& options)
    : gate_proj_(register_module(
          "gate_proj",
          Projection(config.hidden_size, config.intermediate_size, config.mlp_bias, options))),
      up_proj_(register_module("up_proj", Projection(config.hidden_size, config.intermediate_size,
                                                     config.mlp_bias, options))),
      down_proj_(register_module(
          "down_proj",
          Projection(config.intermediate_size, config.hidden_size, config.mlp_bias, options))) {}

Tensor LlamaMlpImpl::forward(const Tensor& x) {
  return down_proj_(torch::silu(gate_proj_(x)) * up_proj_(x));
}

LlamaBlockImpl::LlamaBlockImpl(const LlamaConfig& config, std::int64_t layer,
                               const torch::TensorOptions& options)
    : self_attn_(register_module("self_attn", LlamaAttention(config, layer, options))),
      mlp_(register_module("mlp", LlamaMlp(config, options))),
      input_layernorm_(register_module("input_layernorm",
                                       RmsNorm(config.hidden_size, config.rms_norm_eps, options))),
      post_attention_layernorm_(register_module(
          "post_attention_layernorm", RmsNorm(config.hidden_size, config.rms_norm_eps, options))) {}

Tensor LlamaBlockImpl::forward(Tensor x, const KeyValueCache::Part* kept) {
  x = x + self_attn_(input_layernorm_(x), kept);
  return x + mlp_(post_attention_layernorm_(x));
}

Tensor window_mask(std::int64_t tokens, std::int64_t window, const torch::Device& device) {
  return torch::ones({tokens, tokens}, torch::dtype(torch::kBool).device(device))
      .tril_()
      .triu_(1 - window);
}

}  // namespace strata::models
