#include "strata/models/neox_config.h"

#include <array>
#include <cmath>
#include <utility>

#include "models/config_json.h"
#include "models/foreign_features.h"
#include "models/rope_json.h"
#include "strata/base/error.h"

namespace strata::models {

namespace {

using formats::JsonValue;
using NeoxType = NeoxConfig::Type;
using Activation = NeoxConfig::Activation;

constexpr std::string_view kGptJ = "gptj", kGptNeoX = "gpt_neox";

/// What the type calls a size: GPT-J has GPT-2's names, of which transformers takes the others too.
struct SizeKey {
  std::int64_t NeoxConfig::*size;
  const char* common;
  const char* of_gptj;
};

constexpr std::array kSizes = {
    SizeKey{&NeoxConfig::hidden_size, "hidden_size", "n_embd"},
    SizeKey{&NeoxConfig::num_hidden_layers, "num_hidden_layers", "n_layer"},
    SizeKey{&NeoxConfig::num_attention_heads, "num_attention_heads", "n_head"},
    SizeKey{&NeoxConfig::max_position_embeddings, "max_position_embeddings", "n_positions"},
};

const char* key_of(const SizeKey& key, NeoxType type) {
  return type == NeoxType::kGptJ ? key.of_gptj : key.common;
}

constexpr const char* activation_key(NeoxType type) {
  return type == NeoxType::kGptJ ? "activation_function" : "hidden_act";
}
constexpr const char* epsilon_key(NeoxType type) {
  return type == NeoxType::kGptJ ? "layer_norm_epsilon" : "layer_norm_eps";
}
constexpr const char* dropout_key(NeoxType type) {
  return type == NeoxType::kGptJ ? "attn_pdrop" : "attention_dropout";
}
constexpr const char* inner_key(NeoxType type) {
  return type == NeoxType::kGptJ ? "n_inner" : "intermediate_size";
}

NeoxConfig defaults_of(NeoxType type) {
  NeoxConfig config;
  config.type = type;
  if (type == NeoxType::kGptNeoX) return config;
  config.vocab_size = 50400;
  config.hidden_size = 4096;
  config.num_hidden_layers = 28;
  config.num_attention_heads = 16;
  config.activation = Activation::kGeluTanh;
  config.attention_bias = false;
  config.rope = {};
  config.rotary_dim = 64;
  return config;
}

/// Names of one function, up to roundings.
void read_activation_of(NeoxConfig& config, const KeyReader& keys) {
  const auto found = keys.find(activation_key(config.type));
  if (!found) return;
  const std::string& name = found->as_string();
  if (name == "gelu") {
    config.activation = Activation::kGelu;
  } else if (name == "gelu_new" || name == "gelu_fast" || name == "gelu_pytorch_tanh") {
    config.activation = Activation::kGeluTanh;
  } else {
    found->fail("\"" + name +
                "\" is not supported; supported: gelu, gelu_new, gelu_fast, gelu_pytorch_tanh");
  }
}

/// What other models have, and these types in part.
void require_no_foreign_features_of(NeoxType type, const KeyReader& keys) {
  const bool is_gptj = type == NeoxType::kGptJ;
  require_no_foreign_features(keys, is_gptj ? kGptJ : kGptNeoX, [&](std::string_view key) {
    return !is_gptj && (key == "rotary_pct" || key == "use_parallel_residual");
  });
}

void read_own_keys(NeoxConfig& config, const KeyReader& keys, std::string_view where) {
  if (config.is_gptj()) {
    keys.read(config.rotary_dim, "rotary_dim");
    if (keys.has("rotary_dim") && !keys.find("rotary_dim")) {
      fail_config(where, "rotary_dim", "a number of elements", "null");
    }
    keys.require("tie_word_embeddings", false);
    for (const char* key : {"rope_parameters", "rope_scaling", "rope_theta"}) {
      if (const auto found = keys.find(key)) {
        found->fail("is not understood: a \"gptj\" has rotary positions of base 10000");
      }
    }
    return;
  }
  keys.read(config.tie_word_embeddings, "tie_word_embeddings");
  keys.read(config.parallel_residual, "use_parallel_residual");
  keys.read(config.attention_bias, "attention_bias");
  config.rope = read_rope(keys, {.context = config.max_position_embeddings,
                                 .theta_key = "rotary_emb_base",
                                 .share_key = "rotary_pct",
                                 .share = 0.25});
}

}  // namespace

NeoxConfig NeoxConfig::from_json(std::string_view text, std::string_view where) {
  const JsonValue json = parse_config(text, where);
  const JsonValue named = json.at("model_type");
  if (named.as_string() != kGptJ && named.as_string() != kGptNeoX) {
    named.fail("\"" + named.as_string() + "\" is not of GPT-NeoX's kind");
  }
  const KeyReader keys(json);
  NeoxConfig config =
      defaults_of(named.as_string() == kGptJ ? NeoxType::kGptJ : NeoxType::kGptNeoX);
  require_plain_decoder(keys);
  require_no_foreign_features_of(config.type, keys);

  keys.read(config.vocab_size, "vocab_size");
  for (const SizeKey& key : kSizes) {
    keys.read(config.*key.size, key_of(key, config.type), config.is_gptj() ? key.common : "");
  }
  if (config.is_gptj()) {
    // Checked before it is multiplied.
    require_extent(where, "n_embd", config.hidden_size, kExtentMax / 4);
    config.intermediate_size = 4 * config.hidden_size;
  }
  keys.read(config.intermediate_size, inner_key(config.type));
  keys.read(config.layer_norm_eps, epsilon_key(config.type));
  keys.read(config.initializer_range, "initializer_range");
  keys.read(config.attention_dropout, dropout_key(config.type));
  read_activation_of(config, keys);
  read_own_keys(config, keys, where);
  config.validate(where);
  return config;
}

std::vector<std::string_view> NeoxConfig::model_types() { return {kGptJ, kGptNeoX}; }

std::string_view NeoxConfig::model_type() const { return is_gptj() ? kGptJ : kGptNeoX; }

void NeoxConfig::validate(std::string_view where) const {
  const auto fail = [&](const char* key, const std::string& rule, double value) {
    fail_config(where, key, rule, std::to_string(value));
  };
  require_extent(where, "vocab_size", vocab_size, kExtentMax);
  for (const SizeKey& key : kSizes) {
    const bool is_width = key.size == &NeoxConfig::hidden_size;
    const bool is_layers = key.size == &NeoxConfig::num_hidden_layers;
    require_extent(where, key_of(key, type), this->*key.size,
                   is_width    ? kExtentMax / 4
                   : is_layers ? kLayersMax
                               : kExtentMax);
  }
  require_extent(where, inner_key(type), intermediate_size, kExtentMax);
  if (hidden_size % num_attention_heads != 0) {
    fail_config(where, key_of(kSizes[0], type),
                "a multiple of the heads (" + std::to_string(num_attention_heads) + ")",
                std::to_string(hidden_size));
  }
  if (is_gptj()) {
    if (rotary_width() < 2 || rotary_width() % 2 != 0 || rotary_width() > head_width()) {
      fail_config(where, "rotary_dim",
                  "even, from 2 to the width of a head (" + std::to_string(head_width()) + ")",
                  std::to_string(rotary_width()));
    }
    if (tie_word_embeddings) fail_config(where, "tie_word_embeddings", "false", "true");
  } else {
    validate_rope(rope, head_width(), where);
  }
  if (!(layer_norm_eps > 0.0)) fail(epsilon_key(type), "positive", layer_norm_eps);
  if (!(initializer_range >= 0.0 && std::isfinite(initializer_range))) {
    fail("initializer_range", "finite and not negative", initializer_range);
  }
  if (!(attention_dropout >= 0.0 && attention_dropout < 1.0)) {
    fail(dropout_key(type), "at least 0 and below 1", attention_dropout);
  }
}

std::string NeoxConfig::to_json(std::string_view dtype, std::string_view original) const {
  if (!original.empty()) return original_json(*this, dtype, original);
  ConfigWriter out(original);
  out.set("architectures", {is_gptj() ? "GPTJForCausalLM" : "GPTNeoXForCausalLM"});
  out.set("model_type", model_type());
  out.set("vocab_size", vocab_size);
  for (const SizeKey& key : kSizes) out.set(key_of(key, type), this->*key.size);
  out.set(inner_key(type), intermediate_size);
  out.set(activation_key(type), activation == Activation::kGelu ? "gelu" : "gelu_new");
  out.set(epsilon_key(type), layer_norm_eps);
  out.set("initializer_range", initializer_range);
  out.set(dropout_key(type), attention_dropout);
  out.set("tie_word_embeddings", tie_word_embeddings);
  if (is_gptj()) {
    out.set("rotary_dim", rotary_width());
  } else {
    out.set("use_parallel_residual", parallel_residual);
    out.set("attention_bias", attention_bias);
    write_rope(out, rope, "rotary_emb_base");
    out.set("rotary_pct", rope.share);
  }
  out.set_dtype(dtype);
  return out.text();
}

}  // namespace strata::models
