#include "strata/models/llama_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <iterator>

#include "models/config_json.h"
#include "models/llama/rope_json.h"
#include "strata/base/error.h"

namespace strata::models {

namespace {

using formats::JsonType;
using formats::JsonValue;
using Type = LlamaConfig::Type;

constexpr std::string_view kSliding = "sliding_attention", kFull = "full_attention";
constexpr std::int64_t kMaxWindowLayers = 28;

/// What transformers has where a config.json of this type says nothing.
struct Defaults {
  std::string_view model_type;
  Type type;
  const char* architecture;
  std::int64_t vocab_size, intermediate_size, context;
  std::optional<std::int64_t> key_value_heads, head_dim;  // nullopt: follow from the heads
};

constexpr std::array<Defaults, 4> kDefaults = {{
    {"llama", Type::kLlama, "LlamaForCausalLM", 32000, 11008, 2048, std::nullopt, std::nullopt},
    {"mistral", Type::kMistral, "MistralForCausalLM", 32000, 14336, 131072, 8, std::nullopt},
    {"qwen2", Type::kQwen2, "Qwen2ForCausalLM", 151936, 22016, 32768, 32, std::nullopt},
    {"qwen3", Type::kQwen3, "Qwen3ForCausalLM", 151936, 22016, 32768, 32, 128},
}};

const Defaults& defaults_of(Type type) {
  return *std::find_if(kDefaults.begin(), kDefaults.end(),
                       [type](const Defaults& defaults) { return defaults.type == type; });
}

/// A key of other models, and the value with which it changes nothing.
struct Foreign {
  enum class Neutral { kNone, kFalse, kZero, kOne };
  std::string_view key;
  Neutral neutral = Neutral::kNone;
};

constexpr std::array kForeign = {
    Foreign{"partial_rotary_factor", Foreign::Neutral::kOne},
    Foreign{"rotary_pct", Foreign::Neutral::kOne},
    Foreign{"embedding_multiplier", Foreign::Neutral::kOne},
    Foreign{"residual_multiplier", Foreign::Neutral::kOne},
    Foreign{"logits_scaling", Foreign::Neutral::kOne},
    Foreign{"logit_scale", Foreign::Neutral::kOne},
    Foreign{"scale_emb", Foreign::Neutral::kOne},
    Foreign{"attention_multiplier"},
    Foreign{"scale_depth"},
    Foreign{"dim_model_base"},
    Foreign{"query_pre_attn_scalar"},
    Foreign{"attn_logit_softcapping"},
    Foreign{"final_logit_softcapping"},
    Foreign{"clip_qkv"},
    Foreign{"no_rope_layers"},
    Foreign{"no_rope_layer_interval"},
    Foreign{"llama_4_scaling_beta"},
    Foreign{"attn_temperature_tuning", Foreign::Neutral::kFalse},
    Foreign{"use_qk_norm", Foreign::Neutral::kFalse},
    Foreign{"qk_layernorm", Foreign::Neutral::kFalse},
    Foreign{"rope_interleave", Foreign::Neutral::kFalse},
    Foreign{"alibi", Foreign::Neutral::kFalse},
    Foreign{"parallel_attn", Foreign::Neutral::kFalse},
    Foreign{"use_parallel_residual", Foreign::Neutral::kFalse},
    Foreign{"num_experts", Foreign::Neutral::kZero},
    Foreign{"num_local_experts", Foreign::Neutral::kZero},
    Foreign{"n_routed_experts", Foreign::Neutral::kZero},
    Foreign{"num_nextn_predict_layers", Foreign::Neutral::kZero},
    Foreign{"hidden_dropout", Foreign::Neutral::kZero},
    Foreign{"resid_pdrop", Foreign::Neutral::kZero},
    Foreign{"embd_pdrop", Foreign::Neutral::kZero},
};

bool is_neutral(const JsonValue& value, Foreign::Neutral neutral) {
  switch (neutral) {
    case Foreign::Neutral::kNone: return false;
    case Foreign::Neutral::kFalse: return value.is(JsonType::kBoolean) && !value.as_bool();
    case Foreign::Neutral::kZero: return value.as_double() == 0.0;
    case Foreign::Neutral::kOne: return value.as_double() == 1.0;
  }
  return false;
}

void require_no_foreign_features(const KeyReader& keys, std::string_view model_type) {
  for (const Foreign& foreign : kForeign) {
    const auto found = keys.find(foreign.key);
    if (found && !is_neutral(*found, foreign.neutral)) {
      found->fail("is a feature of other models, which a \"" + std::string(model_type) +
                  "\" here does not have; it would change the numbers");
    }
  }
}

void read_activation(const KeyReader& keys) {
  const auto found = keys.find("hidden_act");
  if (!found || found->as_string() == "silu" || found->as_string() == "swish") return;
  found->fail("\"" + found->as_string() + "\" is not supported; supported: silu, swish");
}

/// Biases and norms, which differ by type: a flag of one that another does not have is refused
/// where it would change something.
void read_flags(LlamaConfig& config, const KeyReader& keys) {
  config.qk_norm = config.type == Type::kQwen3;
  switch (config.type) {
    case Type::kLlama:
      keys.read(config.qkv_bias, "attention_bias");
      config.output_bias = config.qkv_bias;
      keys.read(config.mlp_bias, "mlp_bias");
      return;
    case Type::kQwen3:
      keys.read(config.qkv_bias, "attention_bias");
      config.output_bias = config.qkv_bias;
      break;
    case Type::kQwen2:
      config.qkv_bias = true;
      keys.require("attention_bias", true);
      break;
    case Type::kMistral: keys.require("attention_bias", false); break;
  }
  keys.require("mlp_bias", false);
}

std::optional<std::int64_t> read_window(const LlamaConfig& config, const KeyReader& keys) {
  std::optional<std::int64_t> window;
  keys.read(window, "sliding_window");
  switch (config.type) {
    case Type::kLlama:
      keys.require("use_sliding_window", false);
      if (window) {
        keys.find("sliding_window")
            ->fail("a \"llama\" has no window; \"mistral\", \"qwen2\" and \"qwen3\" have");
      }
      return std::nullopt;
    case Type::kMistral:
      if (!keys.has("sliding_window")) window = 4096;
      keys.require("use_sliding_window", window.has_value());
      return window;
    case Type::kQwen2:
    case Type::kQwen3: {
      bool is_used = false;
      keys.read(is_used, "use_sliding_window");
      if (!is_used) return std::nullopt;
      if (!keys.has("sliding_window")) window = 4096;
      return window;
    }
  }
  return window;
}

/// Which layers slide, as "layer_types" says, or else the type's own rule.
std::vector<bool> read_sliding_layers(const LlamaConfig& config, const KeyReader& keys) {
  std::vector<bool> sliding;
  if (const auto types = keys.find("layer_types")) {
    for (const JsonValue& value : types->elements()) {
      const std::string& name = value.as_string();
      if (name != kSliding && name != kFull && name != "attention") {
        value.fail("\"" + name + "\" is not supported; supported: full_attention, " +
                   std::string(kSliding));
      }
      sliding.push_back(name == kSliding);
      if (sliding.back() && !config.sliding_window) {
        value.fail("there is no window: \"sliding_window\" is null, or not used");
      }
      if (config.type == Type::kMistral && !sliding.back() && config.sliding_window) {
        value.fail("all layers of a \"mistral\" with a \"sliding_window\" slide");
      }
    }
    if (static_cast<std::int64_t>(sliding.size()) != config.num_hidden_layers) {
      types->fail("has " + std::to_string(sliding.size()) +
                  " layers and \"num_hidden_layers\" says " +
                  std::to_string(config.num_hidden_layers));
    }
  } else if (config.type != Type::kMistral && config.sliding_window) {
    std::int64_t first = kMaxWindowLayers;
    keys.read(first, "max_window_layers");
    for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
      sliding.push_back(layer >= first);
    }
  }
  const bool all = std::all_of(sliding.begin(), sliding.end(), [](bool slides) { return slides; });
  return config.sliding_window && !all ? sliding : std::vector<bool>();
}

void read_heads(LlamaConfig& config, const KeyReader& keys, const Defaults& defaults) {
  keys.read(config.num_attention_heads, "num_attention_heads");
  const bool says_nothing = !keys.has("num_key_value_heads");
  config.num_key_value_heads = says_nothing && defaults.key_value_heads
                                   ? *defaults.key_value_heads
                                   : config.num_attention_heads;
  keys.read(config.num_key_value_heads, "num_key_value_heads");
  if (!keys.has("head_dim")) config.head_dim = defaults.head_dim;
  keys.read(config.head_dim, "head_dim");
}

}  // namespace

LlamaConfig LlamaConfig::from_json(std::string_view text, std::string_view where) {
  const JsonValue json = parse_config(text, where);
  const JsonValue named = json.at("model_type");
  const auto defaults = std::find_if(
      kDefaults.begin(), kDefaults.end(),
      [&](const Defaults& candidate) { return candidate.model_type == named.as_string(); });
  if (defaults == kDefaults.end()) named.fail("\"" + named.as_string() + "\" is not a Llama's");
  const KeyReader keys(json);
  require_plain_decoder(keys);
  require_no_foreign_features(keys, defaults->model_type);
  read_activation(keys);

  LlamaConfig config;
  config.type = defaults->type;
  config.vocab_size = defaults->vocab_size;
  config.intermediate_size = defaults->intermediate_size;
  config.max_position_embeddings = defaults->context;
  keys.read(config.vocab_size, "vocab_size");
  keys.read(config.hidden_size, "hidden_size");
  keys.read(config.intermediate_size, "intermediate_size");
  keys.read(config.num_hidden_layers, "num_hidden_layers");
  keys.read(config.max_position_embeddings, "max_position_embeddings");
  keys.read(config.rms_norm_eps, "rms_norm_eps");
  keys.read(config.initializer_range, "initializer_range");
  keys.read(config.attention_dropout, "attention_dropout");
  keys.read(config.tie_word_embeddings, "tie_word_embeddings");
  keys.read(config.padding_token, "pad_token_id");
  // Counted from the end where it is negative, as LibTorch's embedding does.
  if (config.padding_token.value_or(0) < 0) *config.padding_token += config.vocab_size;
  require_extent(where, "num_hidden_layers", config.num_hidden_layers, kLayersMax);
  read_heads(config, keys, *defaults);
  read_flags(config, keys);
  config.rope = read_rope(keys, config.max_position_embeddings);
  config.sliding_window = read_window(config, keys);
  config.sliding_layers = read_sliding_layers(config, keys);
  config.validate(where);
  return config;
}

std::vector<std::string_view> LlamaConfig::model_types() {
  std::vector<std::string_view> types;
  types.reserve(std::size(kDefaults));
  for (const Defaults& defaults : kDefaults) types.push_back(defaults.model_type);
  return types;
}

std::string_view LlamaConfig::model_type() const { return defaults_of(type).model_type; }

std::optional<std::int64_t> LlamaConfig::window_of(std::int64_t layer) const {
  if (!sliding_window || sliding_layers.empty()) return sliding_window;
  const std::size_t index = std::min(static_cast<std::size_t>(layer), sliding_layers.size() - 1);
  return sliding_layers[index] ? sliding_window : std::nullopt;
}

void LlamaConfig::validate(std::string_view where) const {
  require_extent(where, "vocab_size", vocab_size, kExtentMax);
  require_extent(where, "hidden_size", hidden_size, kExtentMax);
  require_extent(where, "intermediate_size", intermediate_size, kExtentMax);
  require_extent(where, "num_hidden_layers", num_hidden_layers, kLayersMax);
  require_extent(where, "num_attention_heads", num_attention_heads, kExtentMax >> 12);
  require_extent(where, "num_key_value_heads", num_key_value_heads, num_attention_heads);
  require_extent(where, "max_position_embeddings", max_position_embeddings, kExtentMax);
  require_extent(where, "sliding_window", sliding_window.value_or(1), kExtentMax);
  if (padding_token && (*padding_token < 0 || *padding_token >= vocab_size)) {
    fail_config(where, "pad_token_id", "a token of the vocabulary", std::to_string(*padding_token));
  }
  if (num_attention_heads % num_key_value_heads != 0) {
    fail_config(
        where, "num_attention_heads",
        "a multiple of \"num_key_value_heads\" (" + std::to_string(num_key_value_heads) + ")",
        std::to_string(num_attention_heads));
  }
  if (!head_dim && hidden_size % num_attention_heads != 0) {
    fail_config(where, "hidden_size",
                "a multiple of \"num_attention_heads\" (" + std::to_string(num_attention_heads) +
                    ") where there is no \"head_dim\"",
                std::to_string(hidden_size));
  }
  require_extent(where, "head_dim", head_width(), 1 << 12);
  if (head_width() % 2 != 0) {
    fail_config(where, "head_dim", "even, as its halves rotate", std::to_string(head_width()));
  }
  if (!(rms_norm_eps > 0.0)) {
    fail_config(where, "rms_norm_eps", "positive", std::to_string(rms_norm_eps));
  }
  if (!(initializer_range >= 0.0 && std::isfinite(initializer_range))) {
    fail_config(where, "initializer_range", "finite and not negative",
                std::to_string(initializer_range));
  }
  if (!(attention_dropout >= 0.0 && attention_dropout < 1.0)) {
    fail_config(where, "attention_dropout", "at least 0 and below 1",
                std::to_string(attention_dropout));
  }
  validate_rope(rope, where);
}

std::string LlamaConfig::to_json(std::string_view dtype, std::string_view original) const {
  ConfigWriter out(original);
  if (!original.empty()) {
    LlamaConfig read = from_json(original, "the original config.json");
    const bool was_tied = read.tie_word_embeddings;
    read.tie_word_embeddings = tie_word_embeddings;
    if (read != *this) {
      throw ConfigError("the original config.json is of another model than the one to be saved");
    }
    if (was_tied != tie_word_embeddings) out.set("tie_word_embeddings", tie_word_embeddings);
    out.set_dtype(dtype);
    return out.text();
  }
  const Defaults& defaults = defaults_of(type);
  out.set("architectures", {defaults.architecture});
  out.set("model_type", defaults.model_type);
  out.set("vocab_size", vocab_size);
  out.set("hidden_size", hidden_size);
  out.set("intermediate_size", intermediate_size);
  out.set("num_hidden_layers", num_hidden_layers);
  out.set("num_attention_heads", num_attention_heads);
  out.set("num_key_value_heads", num_key_value_heads);
  out.set("head_dim", head_width());
  out.set("hidden_act", "silu");
  out.set("max_position_embeddings", max_position_embeddings);
  out.set("rms_norm_eps", rms_norm_eps);
  out.set("initializer_range", initializer_range);
  out.set("attention_dropout", attention_dropout);
  out.set("tie_word_embeddings", tie_word_embeddings);
  if (type == Type::kLlama || type == Type::kQwen3) out.set("attention_bias", qkv_bias);
  if (type == Type::kLlama) out.set("mlp_bias", mlp_bias);
  if (type != Type::kLlama) out.set("sliding_window", ConfigWriter::json_of(sliding_window));
  if (type == Type::kQwen2 || type == Type::kQwen3) {
    out.set("use_sliding_window", sliding_window.has_value());
    ConfigWriter::Json types = ConfigWriter::Json::array();
    for (std::int64_t layer = 0; layer < num_hidden_layers; ++layer) {
      types.push_back(window_of(layer) ? kSliding : kFull);
    }
    out.set("layer_types", types);
  }
  out.set("pad_token_id", ConfigWriter::json_of(padding_token));
  write_rope(out, rope);
  out.set_dtype(dtype);
  return out.text();
}

}  // namespace strata::models
