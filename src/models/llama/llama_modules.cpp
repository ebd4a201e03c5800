#include "models/llama/llama_modules.h"

#include <cmath>
#include <string>

#include "models/attention.h"
#include "models/llama/llama_names.h"

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

Tensor normed_by(RmsNorm& norm, const Tensor& x) { return norm ? norm(x) : x; }

}  // namespace

RmsNormImpl::RmsNormImpl(std::int64_t width, double epsilon, Product product,
                         const torch::TensorOptions& options)
    : epsilon_(epsilon),
      product_(product),
      weight_(register_parameter("weight", torch::empty({width}, options))) {}

Tensor RmsNormImpl::forward(const Tensor& x) {
  const Tensor wide = x.to(torch::kFloat32);
  const Tensor variance = wide.square().mean(-1, /*keepdim=*/true);
  const Tensor normed = wide * torch::rsqrt(variance + epsilon_);
  const auto product = [&] {
    switch (product_) {
      // The weight may be kept in fp32.
      case Product::kAfterRounding: return weight_ * normed.to(x.scalar_type());
      case Product::kInFp32: return weight_ * normed;
      case Product::kByOneMore: return normed * (1.0 + weight_.to(torch::kFloat32));
    }
    return Tensor();
  };
  return product().to(x.scalar_type());
}

RmsNorm rms_norm(const LlamaConfig& config, std::int64_t width,
                 const torch::TensorOptions& options) {
  using Product = RmsNormImpl::Product;
  const Product product = config.is_gemma()        ? Product::kByOneMore
                          : config.norms_in_fp32() ? Product::kInFp32
                                                   : Product::kAfterRounding;
  return RmsNorm(width, config.rms_norm_eps, product, options);
}

LlamaAttentionImpl::LlamaAttentionImpl(const LlamaConfig& config, std::int64_t layer,
                                       const torch::TensorOptions& options)
    : heads_(config.num_attention_heads),
      key_heads_(config.num_key_value_heads),
      head_width_(config.head_width()),
      window_(config.window_of(layer)),
      dropout_(config.attention_dropout),
      rotates_in_fp32_(config.rotates_in_fp32()),
      norms_all_heads_(config.norms_all_heads()) {
  scores_.soft_cap = config.attention_soft_cap;
  if (config.query_scalar) scores_.scale = 1.0 / std::sqrt(*config.query_scalar);
  if (const auto rope = config.rope_of(layer))
    rotary_.emplace(*rope, rope->rotary_width(head_width_));
  const std::int64_t width = config.hidden_size;
  const std::int64_t queries = config.query_width(), keys = config.key_width();
  const std::string prefix = llama_block_name(layer) + ".self_attn.";
  const auto projection = [&](const std::string& name, std::int64_t out) {
    return register_module(name, Projection(width, out, config.qkv_bias, options,
                                            adapter_of(config.lora, prefix + name)));
  };
  if (config.has_fused_projections()) {
    qkv_proj_ = projection("qkv_proj", queries + 2 * keys);
  } else {
    q_proj_ = projection("q_proj", queries);
    k_proj_ = projection("k_proj", keys);
    v_proj_ = projection("v_proj", keys);
  }
  o_proj_ = register_module("o_proj", Projection(queries, width, config.output_bias, options,
                                                 adapter_of(config.lora, prefix + "o_proj")));
  if (!config.qk_norm) return;
  q_norm_ = register_module("q_norm",
                            rms_norm(config, norms_all_heads_ ? queries : head_width_, options));
  k_norm_ =
      register_module("k_norm", rms_norm(config, norms_all_heads_ ? keys : head_width_, options));
}

LlamaAttentionImpl::Parts LlamaAttentionImpl::projected(const Tensor& x) {
  if (!qkv_proj_) return {q_proj_(x), k_proj_(x), v_proj_(x)};
  const Tensor all = qkv_proj_(x);
  const std::int64_t queries = heads_ * head_width_, keys = key_heads_ * head_width_;
  return {all.narrow(-1, 0, queries), all.narrow(-1, queries, keys),
          all.narrow(-1, queries + keys, keys)};
}

Tensor LlamaAttentionImpl::in_heads(const Tensor& x, std::int64_t heads) const {
  return x.view({x.size(0), x.size(1), heads, head_width_});
}

Tensor LlamaAttentionImpl::normed(const Tensor& projected, std::int64_t heads,
                                  RmsNorm& norm) const {
  if (!norm) return in_heads(projected, heads).transpose(1, 2);
  const Tensor parts =
      norms_all_heads_ ? in_heads(norm(projected), heads) : norm(in_heads(projected, heads));
  return parts.transpose(1, 2);
}

Tensor LlamaAttentionImpl::forward(const Tensor& x, const KeyValueCache::Part* kept,
                                   const Documents* documents) {
  const Parts all = projected(x);
  Parts parts = {normed(all.queries, heads_, q_norm_), normed(all.keys, key_heads_, k_norm_),
                 in_heads(all.values, key_heads_).transpose(1, 2)};
  if (rotary_) {
    const torch::TensorOptions options =
        rotates_in_fp32_ ? x.options().dtype(torch::kFloat32) : x.options();
    const auto [cosines, sines] = rotary_->of(x.size(1), places_of(kept, documents), options);
    parts.queries = rotated(parts.queries, cosines, sines);
    parts.keys = rotated(parts.keys, cosines, sines);
  }
  const auto attend_alone = [this](const Tensor& queries, const Tensor& keys,
                                   const Tensor& values) {
    return attend({queries, keys, values});
  };
  return o_proj_(attended(kept, documents, parts.queries, parts.keys, parts.values, attend_alone,
                          window_.value_or(0), scores_)
                     .transpose(1, 2)
                     .reshape({x.size(0), x.size(1), heads_ * head_width_}));
}

Tensor LlamaAttentionImpl::attend(const Parts& parts) const {
  const std::int64_t length = parts.queries.size(2);
  const bool slides = window_ && *window_ < length;
  return attention(parts.queries, shared_by(parts.keys, heads_), shared_by(parts.values, heads_),
                   slides ? window_mask(length, *window_, parts.queries.device()) : Tensor(),
                   is_training() ? dropout_ : 0.0, scores_);
}

LlamaMlpImpl::LlamaMlpImpl(const LlamaConfig& config, std::int64_t layer,
                           const torch::TensorOptions& options)
    : uses_gelu_(config.is_gemma()) {
  const std::int64_t width = config.hidden_size, inner = config.intermediate_size;
  const std::string prefix = llama_block_name(layer) + ".mlp.";
  const auto projection = [&](const std::string& name, std::int64_t in, std::int64_t out) {
    return register_module(name, Projection(in, out, config.mlp_bias, options,
                                            adapter_of(config.lora, prefix + name)));
  };
  if (config.has_fused_projections()) {
    gate_up_proj_ = projection("gate_up_proj", width, 2 * inner);
  } else {
    gate_proj_ = projection("gate_proj", width, inner);
    up_proj_ = projection("up_proj", width, inner);
  }
  down_proj_ = projection("down_proj", inner, width);
}

Tensor LlamaMlpImpl::forward(const Tensor& x) {
  const auto activated = [this](const Tensor& gate) {
    return uses_gelu_ ? torch::gelu(gate, "tanh") : torch::silu(gate);
  };
  if (!gate_up_proj_) return down_proj_(activated(gate_proj_(x)) * up_proj_(x));
  const std::vector<Tensor> parts = gate_up_proj_(x).chunk(2, -1);
  return down_proj_(activated(parts[0]) * parts[1]);
}

LlamaRouterImpl::LlamaRouterImpl(const LlamaConfig& config, const torch::TensorOptions& options)
    : each_(config.num_experts_per_tok),
      norms_weights_(config.norm_topk_prob),
      in_fp32_(config.weighs_experts_in_fp32()),
      gate_(register_module(kRouter, Projection(config.hidden_size, config.num_experts,
                                                /*has_bias=*/false, options))) {}

std::pair<Tensor, Tensor> LlamaRouterImpl::forward(const Tensor& x) {
  const Tensor logits = gate_(x);
  auto [weights, chosen] = torch::softmax(logits, -1, torch::kFloat32).topk(each_, -1);
  if (norms_weights_) weights = weights / weights.sum(-1, /*keepdim=*/true);
  return {in_fp32_ ? weights : weights.to(logits.scalar_type()), chosen};
}

LlamaBlockImpl::LlamaBlockImpl(const LlamaConfig& config, std::int64_t layer,
                               const torch::TensorOptions& options)
    : self_attn_(register_module("self_attn", LlamaAttention(config, layer, options))) {
  if (config.has_experts(layer)) {
    router_ = register_module(llama_routed_name(config), LlamaRouter(config, options));
  } else {
    mlp_ = register_module("mlp", LlamaMlp(config, layer, options));
  }
  std::vector<RmsNorm> norms;
  for (const std::string& name : llama_norm_names(config)) {
    norms.push_back(register_module(name, rms_norm(config, config.hidden_size, options)));
  }
  auto next = norms.begin();
  if (config.norms_inputs()) before_attention_ = *next++;
  if (config.norms_outputs()) after_attention_ = *next++;
  if (config.norms_inputs()) before_mlp_ = *next++;
  if (config.norms_outputs()) after_mlp_ = *next++;
}

Tensor LlamaBlockImpl::attended_to(const Tensor& x, const KeyValueCache::Part* kept,
                                   const Documents* documents) {
  return x +
         normed_by(after_attention_, self_attn_(normed_by(before_attention_, x), kept, documents));
}

Tensor LlamaBlockImpl::forward(Tensor x, const KeyValueCache::Part* kept,
                               const Documents* documents) {
  x = attended_to(x, kept, documents);
  return x + normed_by(after_mlp_, mlp_(normed_by(before_mlp_, x)));
}

Routed LlamaBlockImpl::route(const Tensor& x, const KeyValueCache::Part* kept,
                             const Documents* documents) {
  const Tensor residual = attended_to(x, kept, documents);
  const Tensor normed = normed_by(before_mlp_, residual);
  const auto [weights, chosen] = router_(normed);
  return {residual, normed, weights, chosen};
}

}  // namespace strata::models
