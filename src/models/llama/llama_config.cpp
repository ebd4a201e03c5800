#include "strata/models/llama_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <tuple>

#include "models/config_json.h"
#include "models/foreign_features.h"
#include "models/llama/experts_json.h"
#include "models/rope_json.h"
#include "strata/base/error.h"

namespace strata::models {

namespace {

using formats::JsonValue;
using Type = LlamaConfig::Type;

constexpr std::string_view kSliding = "sliding_attention", kFull = "full_attention";
constexpr std::int64_t kMaxWindowLayers = 28;
constexpr std::int64_t kExpertsMax = 1 << 12;  // each is a unit that is laid out

/// What transformers has where a config.json of this type says nothing.
struct Defaults {
  std::string_view model_type;
  Type type;
  const char* architecture;
  std::int64_t vocab_size, intermediate_size, context;
  std::int64_t hidden_size = 4096, layers = 32, heads = 32;
  std::optional<std::int64_t> key_value_heads = std::nullopt;  // nullopt: as many as heads
  std::optional<std::int64_t> head_dim = std::nullopt;         // nullopt: follows from the heads
  double rms_norm_eps = 1e-6, rope_theta = 10000.0;
  std::optional<std::int64_t> padding_token = std::nullopt;
  bool ties = false;
  std::int64_t experts = 0, experts_per_token = 1;
};

constexpr std::array kDefaults = {
    Defaults{.model_type = "llama",
             .type = Type::kLlama,
             .architecture = "LlamaForCausalLM",
             .vocab_size = 32000,
             .intermediate_size = 11008,
             .context = 2048},
    Defaults{.model_type = "mistral",
             .type = Type::kMistral,
             .architecture = "MistralForCausalLM",
             .vocab_size = 32000,
             .intermediate_size = 14336,
             .context = 131072,
             .key_value_heads = 8},
    Defaults{.model_type = "qwen2",
             .type = Type::kQwen2,
             .architecture = "Qwen2ForCausalLM",
             .vocab_size = 151936,
             .intermediate_size = 22016,
             .context = 32768,
             .key_value_heads = 32},
    Defaults{.model_type = "qwen3",
             .type = Type::kQwen3,
             .architecture = "Qwen3ForCausalLM",
             .vocab_size = 151936,
             .intermediate_size = 22016,
             .context = 32768,
             .key_value_heads = 32,
             .head_dim = 128},
    Defaults{.model_type = "smollm3",
             .type = Type::kSmolLm3,
             .architecture = "SmolLM3ForCausalLM",
             .vocab_size = 128256,
             .intermediate_size = 11008,
             .context = 32768,
             .hidden_size = 2048,
             .layers = 36,
             .heads = 16,
             .key_value_heads = 4,
             .rope_theta = 2e6,
             .padding_token = 128004,
             .ties = true},
    Defaults{.model_type = "olmo2",
             .type = Type::kOlmo2,
             .architecture = "Olmo2ForCausalLM",
             .vocab_size = 50304,
             .intermediate_size = 11008,
             .context = 2048,
             .rms_norm_eps = 1e-5,
             .padding_token = 1},
    Defaults{.model_type = "phi3",
             .type = Type::kPhi3,
             .architecture = "Phi3ForCausalLM",
             .vocab_size = 32064,
             .intermediate_size = 8192,
             .context = 4096,
             .hidden_size = 3072,
             .rms_norm_eps = 1e-5,
             .padding_token = 32000},
    Defaults{.model_type = "gemma2",
             .type = Type::kGemma2,
             .architecture = "Gemma2ForCausalLM",
             .vocab_size = 256000,
             .intermediate_size = 9216,
             .context = 8192,
             .hidden_size = 2304,
             .layers = 26,
             .heads = 8,
             .key_value_heads = 4,
             .head_dim = 256,
             .padding_token = 0,
             .ties = true},
    Defaults{.model_type = "gemma3_text",
             .type = Type::kGemma3Text,
             .architecture = "Gemma3ForCausalLM",
             .vocab_size = 262208,
             .intermediate_size = 9216,
             .context = 131072,
             .hidden_size = 2304,
             .layers = 26,
             .heads = 8,
             .key_value_heads = 4,
             .head_dim = 256,
             .rope_theta = 1e6,
             .padding_token = 0,
             .ties = true},
    Defaults{.model_type = "mixtral",
             .type = Type::kMixtral,
             .architecture = "MixtralForCausalLM",
             .vocab_size = 32000,
             .intermediate_size = 14336,
             .context = 131072,
             .key_value_heads = 8,
             .rms_norm_eps = 1e-5,
             .rope_theta = 1e6,
             .experts = 8,
             .experts_per_token = 2},
    Defaults{.model_type = "qwen3_moe",
             .type = Type::kQwen3Moe,
             .architecture = "Qwen3MoeForCausalLM",
             .vocab_size = 151936,
             .intermediate_size = 6144,
             .context = 32768,
             .hidden_size = 2048,
             .layers = 24,
             .key_value_heads = 4,
             .experts = 128,
             .experts_per_token = 8},
};

constexpr double kSlidingTheta = 10000.0;                         // Gemma 3's
constexpr double kQueryScalar = 256.0;                            // Gemma's
constexpr double kAttentionSoftCap = 50.0, kLogitSoftCap = 30.0;  // Gemma 2's
constexpr std::int64_t kNoRopeInterval = 4;                       // SmolLM3's

const Defaults& defaults_of(Type type) {
  return *std::find_if(kDefaults.begin(), kDefaults.end(),
                       [type](const Defaults& defaults) { return defaults.type == type; });
}

/// Whether a type has what is foreign to the others.
bool has_feature(Type type, std::string_view key) {
  switch (type) {
    case Type::kSmolLm3: return key == "no_rope_layers" || key == "no_rope_layer_interval";
    case Type::kPhi3: return key == "partial_rotary_factor";
    case Type::kGemma2:
      return key == "query_pre_attn_scalar" || key == "attn_logit_softcapping" ||
             key == "final_logit_softcapping";
    // transformers does not look at its "attn_logit_softcapping".
    case Type::kGemma3Text:
      return key == "query_pre_attn_scalar" || key == "final_logit_softcapping" ||
             key == "rope_local_base_freq" || key == "sliding_window_pattern";
    case Type::kMixtral: return key == "num_local_experts" || key == "num_experts";
    case Type::kQwen3Moe:
      return key == "num_local_experts" || key == "num_experts" || key == "moe_intermediate_size" ||
             key == "decoder_sparse_step";
    default: return false;
  }
}

void require_activation(const KeyReader& keys, std::string_view key, std::string_view name,
                        std::string_view other_name) {
  const auto found = keys.find(key);
  if (!found || found->as_string() == name || found->as_string() == other_name) return;
  found->fail("\"" + found->as_string() + "\" is not supported; supported: " + std::string(name) +
              (other_name.empty() ? "" : ", " + std::string(other_name)));
}

void read_activation(const LlamaConfig& config, const KeyReader& keys) {
  if (!config.is_gemma()) {
    require_activation(keys, "hidden_act", "silu", "swish");
    return;
  }
  // Of the two names transformers looks at the first.
  require_activation(keys, "hidden_activation", "gelu_pytorch_tanh", "");
  require_activation(keys, "hidden_act", "gelu_pytorch_tanh", "");
}

/// Biases and norms, which differ by type: a flag of one that another does not have is refused
/// where it would change something.
void read_flags(LlamaConfig& config, const KeyReader& keys) {
  config.qk_norm = config.type == Type::kQwen3 || config.type == Type::kQwen3Moe ||
                   config.type == Type::kOlmo2 || config.type == Type::kGemma3Text;
  switch (config.type) {
    case Type::kLlama:
    case Type::kSmolLm3:
      keys.read(config.qkv_bias, "attention_bias");
      config.output_bias = config.qkv_bias;
      keys.read(config.mlp_bias, "mlp_bias");
      return;
    case Type::kQwen3:
    case Type::kQwen3Moe:
    case Type::kOlmo2:
    case Type::kGemma2:
    case Type::kGemma3Text:
      keys.read(config.qkv_bias, "attention_bias");
      config.output_bias = config.qkv_bias;
      break;
    case Type::kQwen2:
      config.qkv_bias = true;
      keys.require("attention_bias", true);
      break;
    case Type::kMistral:
    case Type::kMixtral:
    case Type::kPhi3: keys.require("attention_bias", false); break;
  }
  keys.require("mlp_bias", false);
}

std::optional<std::int64_t> read_window(const LlamaConfig& config, const KeyReader& keys) {
  std::optional<std::int64_t> window;
  keys.read(window, "sliding_window");
  const bool says_nothing = !keys.has("sliding_window");
  switch (config.type) {
    case Type::kLlama:
    case Type::kOlmo2:
      keys.require("use_sliding_window", false);
      if (window) {
        keys.find("sliding_window")
            ->fail("a \"" + std::string(config.model_type()) +
                   "\" has no window; \"mistral\", \"phi3\", \"qwen2\" and others have");
      }
      return std::nullopt;
    case Type::kMistral:
      if (says_nothing) window = 4096;
      keys.require("use_sliding_window", window.has_value());
      return window;
    case Type::kMixtral:
    case Type::kPhi3: keys.require("use_sliding_window", window.has_value()); return window;
    case Type::kQwen2:
    case Type::kQwen3:
    case Type::kQwen3Moe:
    case Type::kSmolLm3: {
      bool is_used = false;
      keys.read(is_used, "use_sliding_window");
      if (!is_used) return std::nullopt;
      if (says_nothing && config.type != Type::kSmolLm3) window = 4096;
      return window;
    }
    case Type::kGemma2:
    case Type::kGemma3Text:
      if (says_nothing) window = 4096;
      return window;
  }
  return window;
}

/// Whether all layers of the type slide, where there is a window.
bool slides_in_all(Type type) {
  return type == Type::kMistral || type == Type::kPhi3 || type == Type::kMixtral ||
         type == Type::kQwen3Moe;
}

/// Which layers slide where "layer_types" says nothing, by the type's own rule.
std::vector<bool> sliding_by_rule(const LlamaConfig& config, const KeyReader& keys) {
  std::int64_t first = kMaxWindowLayers, pattern = config.type == Type::kGemma2 ? 2 : 6;
  keys.read(first, "max_window_layers");
  if (config.type == Type::kGemma3Text) keys.read(pattern, "sliding_window_pattern");
  if (const auto found = keys.find("sliding_window_pattern"); found && pattern < 1) {
    found->fail("must be at least 1");
  }
  std::vector<bool> sliding;
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    if (config.is_gemma()) {
      sliding.push_back((layer + 1) % pattern != 0);
    } else if (config.type == Type::kSmolLm3) {
      sliding.push_back(!config.rope_of(layer));
    } else {
      sliding.push_back(layer >= first);
    }
  }
  return sliding;
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
      if (slides_in_all(config.type) && !sliding.back() && config.sliding_window) {
        value.fail("all layers of a \"" + std::string(config.model_type()) +
                   "\" with a \"sliding_window\" slide");
      }
    }
    if (static_cast<std::int64_t>(sliding.size()) != config.num_hidden_layers) {
      types->fail("has " + std::to_string(sliding.size()) +
                  " layers and \"num_hidden_layers\" says " +
                  std::to_string(config.num_hidden_layers));
    }
  } else if (!slides_in_all(config.type) && config.sliding_window) {
    sliding = sliding_by_rule(config, keys);
  }
  const bool all = std::all_of(sliding.begin(), sliding.end(), [](bool slides) { return slides; });
  return config.sliding_window && !all ? sliding : std::vector<bool>();
}

/// Which layers rotate: "no_rope_layers" has 1 for those that do.
std::vector<bool> read_rotary_layers(const LlamaConfig& config, const KeyReader& keys) {
  std::vector<bool> rotary;
  if (const auto found = keys.find("no_rope_layers")) {
    for (const JsonValue& value : found->elements()) rotary.push_back(value.as_int64() != 0);
    if (static_cast<std::int64_t>(rotary.size()) < config.num_hidden_layers) {
      found->fail("has " + std::to_string(rotary.size()) +
                  " layers and \"num_hidden_layers\" says " +
                  std::to_string(config.num_hidden_layers));
    }
    rotary.resize(static_cast<std::size_t>(config.num_hidden_layers));
  } else {
    std::int64_t interval = kNoRopeInterval;
    keys.read(interval, "no_rope_layer_interval");
    if (interval < 1) keys.find("no_rope_layer_interval")->fail("must be at least 1");
    for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
      rotary.push_back((layer + 1) % interval != 0);
    }
  }
  const bool all = std::all_of(rotary.begin(), rotary.end(), [](bool rotates) { return rotates; });
  return all ? std::vector<bool>() : rotary;
}

/// A soft cap: absent, the type's own; null, none.
std::optional<double> read_soft_cap(const KeyReader& keys, std::string_view key,
                                    std::optional<double> own) {
  std::optional<double> cap;
  if (!keys.has(key)) return own;
  keys.read(cap, key);
  return cap;
}

/// What Gemma does to scores and logits.
void read_scores(LlamaConfig& config, const KeyReader& keys) {
  if (!config.is_gemma()) return;
  config.query_scalar = kQueryScalar;
  keys.read(config.query_scalar, "query_pre_attn_scalar");
  const bool caps = config.type == Type::kGemma2;
  config.logit_soft_cap = read_soft_cap(keys, "final_logit_softcapping",
                                        caps ? std::make_optional(kLogitSoftCap) : std::nullopt);
  if (!caps) return;
  config.attention_soft_cap = read_soft_cap(keys, "attn_logit_softcapping", kAttentionSoftCap);
}

void read_heads(LlamaConfig& config, const KeyReader& keys, const Defaults& defaults) {
  config.num_attention_heads = defaults.heads;
  keys.read(config.num_attention_heads, "num_attention_heads");
  const bool says_nothing = !keys.has("num_key_value_heads");
  config.num_key_value_heads = says_nothing && defaults.key_value_heads
                                   ? *defaults.key_value_heads
                                   : config.num_attention_heads;
  keys.read(config.num_key_value_heads, "num_key_value_heads");
  if (!keys.has("head_dim")) config.head_dim = defaults.head_dim;
  keys.read(config.head_dim, "head_dim");
}

void read_positions(LlamaConfig& config, const KeyReader& keys, const Defaults& defaults) {
  RopeDefaults rope = {
      .context = config.max_position_embeddings, .theta = defaults.rope_theta, .share_key = {}};
  if (config.type == Type::kGemma3Text) {
    std::tie(config.rope, config.sliding_rope) = read_ropes_by_layer(keys, rope, kSlidingTheta);
    return;
  }
  if (config.type == Type::kPhi3) rope.share_key = "partial_rotary_factor";
  config.rope = read_rope(keys, rope);
  if (config.type == Type::kSmolLm3) config.rotary_layers = read_rotary_layers(config, keys);
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
  LlamaConfig config;
  config.type = defaults->type;
  require_plain_decoder(keys);
  require_no_foreign_features(keys, defaults->model_type, [&](std::string_view key) {
    return has_feature(defaults->type, key);
  });
  read_activation(config, keys);

  config.vocab_size = defaults->vocab_size;
  config.hidden_size = defaults->hidden_size;
  config.intermediate_size = defaults->intermediate_size;
  config.num_hidden_layers = defaults->layers;
  config.max_position_embeddings = defaults->context;
  config.rms_norm_eps = defaults->rms_norm_eps;
  config.tie_word_embeddings = defaults->ties;
  if (!keys.has("pad_token_id")) config.padding_token = defaults->padding_token;
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
  read_positions(config, keys, *defaults);
  read_scores(config, keys);
  if (defaults->experts > 0) {
    config.num_experts = defaults->experts;
    config.num_experts_per_tok = defaults->experts_per_token;
    read_experts(config, keys);
  }
  config.sliding_window = read_window(config, keys);
  if (config.is_gemma() && !config.sliding_window && !keys.has("layer_types")) {
    fail_config(where, "sliding_window", "a number of tokens, as layers slide", "null");
  }
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

bool LlamaConfig::has_experts(std::int64_t layer) const {
  if (num_experts == 0 || expert_layers.empty()) return num_experts > 0;
  return expert_layers[std::min(static_cast<std::size_t>(layer), expert_layers.size() - 1)];
}

std::optional<RopeConfig> LlamaConfig::rope_of(std::int64_t layer) const {
  if (!rotary_layers.empty() &&
      !rotary_layers[std::min(static_cast<std::size_t>(layer), rotary_layers.size() - 1)]) {
    return std::nullopt;
  }
  return sliding_rope && window_of(layer) ? *sliding_rope : rope;
}

void LlamaConfig::validate(std::string_view where) const {
  require_extent(where, "vocab_size", vocab_size, kExtentMax);
  require_extent(where, "hidden_size", hidden_size, kExtentMax);
  require_extent(where, "intermediate_size", intermediate_size, kExtentMax);
  require_extent(where, "num_hidden_layers", num_hidden_layers, kLayersMax);
  require_extent(where, "num_attention_heads", num_attention_heads, kExtentMax >> 12);
  require_extent(where, "num_key_value_heads", num_key_value_heads, num_attention_heads);
  require_extent(where, "max_position_embeddings", max_position_embeddings, kExtentMax);
  if (num_experts != 0 || type == Type::kMixtral) {
    require_extent(where, type == Type::kMixtral ? "num_local_experts" : "num_experts", num_experts,
                   kExpertsMax);
    require_extent(where, "num_experts_per_tok", num_experts_per_tok, num_experts);
    require_extent(where, "moe_intermediate_size", expert_width(), kExtentMax);
  }
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
  validate_rope(rope, head_width(), where);
  if (sliding_rope) validate_rope(*sliding_rope, head_width(), where);
  const RopeConfig& plain = type == Type::kPhi3 ? rope : sliding_rope.value_or(RopeConfig{});
  if (plain.type != RopeConfig::Type::kDefault) {
    fail_config(where, "rope_type",
                std::string("\"default\" ") +
                    (type == Type::kPhi3 ? "in a \"phi3\"" : "in layers that slide"),
                "another");
  }
  const auto require_positive = [&](const char* key, std::optional<double> value) {
    if (value.value_or(1.0) > 0.0 && std::isfinite(value.value_or(1.0))) return;
    fail_config(where, key, "positive and finite", std::to_string(*value));
  };
  require_positive("query_pre_attn_scalar", query_scalar);
  require_positive("attn_logit_softcapping", attention_soft_cap);
  require_positive("final_logit_softcapping", logit_soft_cap);
}

std::string LlamaConfig::to_json(std::string_view dtype, std::string_view original) const {
  if (!original.empty()) return original_json(*this, dtype, original);
  ConfigWriter out(original);
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
  out.set(is_gemma() ? "hidden_activation" : "hidden_act",
          is_gemma() ? "gelu_pytorch_tanh" : "silu");
  out.set("max_position_embeddings", max_position_embeddings);
  out.set("rms_norm_eps", rms_norm_eps);
  out.set("initializer_range", initializer_range);
  out.set("attention_dropout", attention_dropout);
  out.set("tie_word_embeddings", tie_word_embeddings);
  if (type != Type::kMistral && type != Type::kMixtral && type != Type::kQwen2 &&
      type != Type::kPhi3) {
    out.set("attention_bias", qkv_bias);
  }
  if (type == Type::kLlama || type == Type::kSmolLm3) out.set("mlp_bias", mlp_bias);
  if (type != Type::kLlama && type != Type::kOlmo2) {
    out.set("sliding_window", ConfigWriter::json_of(sliding_window));
  }
  if (type == Type::kQwen2 || type == Type::kQwen3 || type == Type::kQwen3Moe ||
      type == Type::kSmolLm3) {
    out.set("use_sliding_window", sliding_window.has_value());
  }
  if (type != Type::kLlama && type != Type::kOlmo2 && !slides_in_all(type)) {
    ConfigWriter::Json types = ConfigWriter::Json::array();
    for (std::int64_t layer = 0; layer < num_hidden_layers; ++layer) {
      types.push_back(window_of(layer) ? kSliding : kFull);
    }
    out.set("layer_types", types);
  }
  if (type == Type::kSmolLm3) {
    ConfigWriter::Json rotary = ConfigWriter::Json::array();
    for (std::int64_t layer = 0; layer < num_hidden_layers; ++layer) {
      rotary.push_back(rope_of(layer) ? 1 : 0);
    }
    out.set("no_rope_layers", rotary);
  }
  if (is_gemma()) {
    out.set("query_pre_attn_scalar", query_scalar.value_or(static_cast<double>(head_width())));
    out.set("final_logit_softcapping", ConfigWriter::json_of(logit_soft_cap));
  }
  if (type == Type::kGemma2) {
    out.set("attn_logit_softcapping", ConfigWriter::json_of(attention_soft_cap));
  }
  if (type == Type::kMixtral || type == Type::kQwen3Moe) write_experts(out, *this);
  if (type == Type::kPhi3) out.set("partial_rotary_factor", rope.share);
  if (sliding_rope) out.set("rope_local_base_freq", sliding_rope->theta);
  out.set("pad_token_id", ConfigWriter::json_of(padding_token));
  write_rope(out, rope);
  out.set_dtype(dtype);
  return out.text();
}

}  // namespace strata::models
