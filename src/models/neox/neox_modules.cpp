#include "models/neox/neox_modules.h"

#include <string>

#include "models/attention.h"
#include "models/neox/neox_names.h"

namespace strata::models {

using torch::Tensor;

NeoxAttentionImpl::NeoxAttentionImpl(const NeoxConfig& config, std::int64_t layer,
                                     const torch::TensorOptions& options)
    : heads_(config.num_attention_heads),
      head_width_(config.head_width()),
      dropout_(config.attention_dropout),
      rotates_pairs_(config.is_gptj()),
      rotary_(config.rope, config.rotary_width()),
      output_(nullptr) {
  const std::int64_t width = config.hidden_size;
  const std::string prefix =
      neox_block_name(config, layer) + "." + neox_names(config).attention + ".";
  const auto projection = [&](const char* name, std::int64_t out) {
    return register_module(name, Projection(width, out, config.attention_bias, options,
                                            adapter_of(config.lora, prefix + name)));
  };
  if (config.is_gptj()) {
    q_proj_ = projection(kGptJQueries, width);
    k_proj_ = projection(kGptJKeys, width);
    v_proj_ = projection(kGptJValues, width);
  } else {
    query_key_value_ = projection(kNeoxFused, 3 * width);
  }
  output_ = projection(neox_names(config).output, width);
}

NeoxAttentionImpl::Parts NeoxAttentionImpl::projected(const Tensor& x) {
  const auto in_heads = [&](const Tensor& all, std::int64_t width) {
    return all.view({x.size(0), x.size(1), heads_, width}).transpose(1, 2);
  };
  if (!query_key_value_) {
    return {in_heads(q_proj_(x), head_width_), in_heads(k_proj_(x), head_width_),
            in_heads(v_proj_(x), head_width_)};
  }
  // A head's queries, keys and values stand side by side.
  const std::vector<Tensor> parts =
      in_heads(query_key_value_(x), 3 * head_width_).split(head_width_, -1);
  return {parts[0], parts[1], parts[2]};
}

Tensor NeoxAttentionImpl::forward(const Tensor& x, const KeyValueCache::Part* kept,
                                  const Documents* documents) {
  Parts parts = projected(x);
  const auto [cosines, sines] = rotary_.of(x.size(1), places_of(kept, documents), x.options());
  const auto rotate = rotates_pairs_ ? rotated_in_pairs : rotated;
  parts.queries = rotate(parts.queries, cosines, sines);
  parts.keys = rotate(parts.keys, cosines, sines);
  const auto attend_alone = [this](const Tensor& queries, const Tensor& keys,
                                   const Tensor& values) {
    return attend({queries, keys, values});
  };
  return output_(attended(kept, documents, parts.queries, parts.keys, parts.values, attend_alone)
                     .transpose(1, 2)
                     .reshape(x.sizes()));
}

Tensor NeoxAttentionImpl::attend(const Parts& parts) const {
  return attention(parts.queries, parts.keys, parts.values, /*mask=*/{},
                   is_training() ? dropout_ : 0.0, {});
}

NeoxMlpImpl::NeoxMlpImpl(const NeoxConfig& config, std::int64_t layer,
                         const torch::TensorOptions& options)
    : gelu_(config.activation == NeoxConfig::Activation::kGeluTanh ? "tanh" : "none"),
      in_(nullptr),
      out_(nullptr) {
  const std::string prefix = neox_block_name(config, layer) + ".mlp.";
  const auto projection = [&](const char* name, std::int64_t in, std::int64_t out) {
    return register_module(name, Projection(in, out, /*has_bias=*/true, options,
                                            adapter_of(config.lora, prefix + name)));
  };
  in_ = projection(neox_names(config).mlp_in, config.hidden_size, config.intermediate_size);
  out_ = projection(neox_names(config).mlp_out, config.intermediate_size, config.hidden_size);
}

Tensor NeoxMlpImpl::forward(const Tensor& x) { return out_(torch::gelu(in_(x), gelu_)); }

NeoxBlockImpl::NeoxBlockImpl(const NeoxConfig& config, std::int64_t layer,
                             const torch::TensorOptions& options)
    : parallel_(config.parallel_residual),
      first_norm_(register_module(neox_names(config).first_norm,
                                  LayerNorm(config.hidden_size, config.layer_norm_eps, options))),
      attention_(nullptr),
      mlp_(nullptr) {
  const NeoxNames& names = neox_names(config);
  if (names.second_norm != nullptr) {
    second_norm_ = register_module(names.second_norm,
                                   LayerNorm(config.hidden_size, config.layer_norm_eps, options));
  }
  attention_ = register_module(names.attention, NeoxAttention(config, layer, options));
  mlp_ = register_module("mlp", NeoxMlp(config, layer, options));
}

Tensor NeoxBlockImpl::forward(const Tensor& x, const KeyValueCache::Part* kept,
                              const Documents* documents) {
  const Tensor normed = first_norm_(x);
  const Tensor attended = attention_(normed, kept, documents);
  // The order of the sums is that of transformers.
  if (!second_norm_) return attended + mlp_(normed) + x;
  if (parallel_) return mlp_(second_norm_(x)) + attended + x;
  const Tensor between = attended + x;
  return mlp_(second_norm_(between)) + between;
}

}  // namespace strata::models
