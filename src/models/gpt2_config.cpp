#include "strata/models/gpt2_config.h"

#include <array>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "strata/base/error.h"
#include "strata/formats/json.h"

namespace strata::models {

namespace {

using formats::JsonType;
using formats::JsonValue;

/// Reads keys of a config; leaves a value as it is where the key is absent or null.
class KeyReader {
 public:
  explicit KeyReader(JsonValue object) : object_(std::move(object)) {}

  /// The value at `key`, or at `alias`, another name that transformers takes for it.
  [[nodiscard]] std::optional<JsonValue> find(std::string_view key,
                                              std::string_view alias = {}) const {
    std::optional<JsonValue> found = not_null(key);
    if (alias.empty()) return found;
    const std::optional<JsonValue> other = not_null(alias);
    if (found && other && found->as_int64() != other->as_int64()) {
      other->fail("is another name of \"" + std::string(key) + "\" and says " +
                  std::to_string(other->as_int64()) + ", which says " +
                  std::to_string(found->as_int64()) + "; leave the one that is meant");
    }
    return found ? found : other;
  }

  void read(std::int64_t& value, std::string_view key, std::string_view alias = {}) const {
    if (const auto found = find(key, alias)) value = found->as_int64();
  }
  void read(std::optional<std::int64_t>& value, std::string_view key) const {
    if (const auto found = find(key)) value = found->as_int64();
  }
  /// Reads a key that changes nothing here, if it is a whole number.
  void read_if_integer(std::optional<std::int64_t>& value, std::string_view key) const {
    if (const auto found = find(key); found && found->is(JsonType::kInteger)) {
      value = found->as_int64();
    }
  }
  void read(double& value, std::string_view key) const {
    if (const auto found = find(key)) value = found->as_double();
  }
  void read(bool& value, std::string_view key) const {
    if (const auto found = find(key)) value = found->as_bool();
  }

  /// Checks a switch with one supported position.
  void require(std::string_view key, bool supported) const {
    const auto found = find(key);
    if (found && found->as_bool() != supported) {
      found->fail(supported ? "false is not supported; only true is"
                            : "true is not supported; only false is");
    }
  }

 private:
  [[nodiscard]] std::optional<JsonValue> not_null(std::string_view key) const {
    std::optional<JsonValue> found = object_.find(key);
    if (found && found->is(JsonType::kNull)) return std::nullopt;
    return found;
  }

  JsonValue object_;
};

std::optional<Gpt2Config::Activation> activation_named(std::string_view name) {
  if (name == "gelu_new" || name == "gelu_pytorch_tanh") return Gpt2Config::Activation::kGeluTanh;
  if (name == "gelu") return Gpt2Config::Activation::kGelu;
  return std::nullopt;
}

Gpt2Config::Activation read_activation(const KeyReader& keys) {
  const auto found = keys.find("activation_function");
  if (!found) return Gpt2Config::Activation::kGeluTanh;
  const std::string& name = found->as_string();
  if (const auto activation = activation_named(name)) return *activation;
  found->fail("\"" + name + "\" is not supported; supported: gelu_new, gelu_pytorch_tanh, gelu");
}

void require_gpt2(const JsonValue& json) {
  const JsonValue model_type = json.at("model_type");
  if (model_type.as_string() != "gpt2") {
    model_type.fail("\"" + model_type.as_string() + "\" is not supported; supported: gpt2");
  }
}

/// Features that GPT-2 configs can ask for and a `Gpt2` does not have.
void require_supported(const KeyReader& keys) {
  keys.require("scale_attn_weights", true);
  keys.require("scale_attn_by_inverse_layer_idx", false);
  keys.require("add_cross_attention", false);
  keys.require("is_encoder_decoder", false);
  keys.require("is_causal", true);
  if (const auto heads = keys.find("pruned_heads"); heads && !heads->members().empty()) {
    heads->fail("pruned heads are not supported; only {} is");
  }
  if (const auto quantization = keys.find("quantization_config")) {
    quantization->fail("quantized models are not supported; use the original weights");
  }
}

// Labels and other keys that are only carried along can be many.
constexpr formats::JsonLimits kLimits = {
    .bytes_max = 16u << 20, .depth_max = 64, .values_max = 1u << 20};

struct Preset {
  std::string_view name;
  std::int64_t n_layer, n_embd, n_head, n_positions, vocab_size;
  double dropout;
};

constexpr std::int64_t kGpt2EndOfText = 50256;
constexpr std::array kPresets = {
    Preset{"gpt-lite", 12, 768, 12, 256, 256, 0.0},
    Preset{"nanogpt-cpu", 4, 128, 4, 64, 65, 0.0},
    Preset{"gpt2", 12, 768, 12, 1024, kGpt2EndOfText + 1, 0.1},
    Preset{"gpt2-medium", 24, 1024, 16, 1024, kGpt2EndOfText + 1, 0.1},
    Preset{"gpt2-large", 36, 1280, 20, 1024, kGpt2EndOfText + 1, 0.1},
    Preset{"gpt2-xl", 48, 1600, 25, 1024, kGpt2EndOfText + 1, 0.1},
};

/// A config.json in which only values that differ are written anew, in place.
class ConfigWriter {
 public:
  using Json = nlohmann::ordered_json;

  explicit ConfigWriter(std::string_view original) {
    if (original.empty()) return;
    json_ = Json::parse(original, nullptr, /*allow_exceptions=*/false);
    if (!json_.is_object()) throw ConfigError("the original config.json is not a JSON object");
  }

  void set(const char* key, const Json& value) {
    if (!has(key) || json_[key] != value) json_[key] = value;
  }
  [[nodiscard]] bool has(const char* key) const { return json_.contains(key); }
  /// The text at `key`; empty where there is none.
  [[nodiscard]] std::string text(const char* key) const {
    return has(key) && json_[key].is_string() ? json_[key].get<std::string>() : std::string();
  }
  [[nodiscard]] std::string text() const { return json_.dump(2) + "\n"; }

 private:
  Json json_ = Json::object();
};

nlohmann::ordered_json json_of(const std::optional<std::int64_t>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json();
}

}  // namespace

Gpt2Config Gpt2Config::from_json(std::string_view text, std::string_view where) {
  const JsonValue json =
      JsonValue::parse(text, std::string(where), formats::JsonRole::kConfig, kLimits);
  require_gpt2(json);
  const KeyReader keys(json);
  require_supported(keys);

  Gpt2Config config;
  keys.read(config.vocab_size, "vocab_size");
  keys.read(config.n_positions, "n_positions", "max_position_embeddings");
  if (!keys.find("n_positions", "max_position_embeddings")) {
    keys.read(config.n_positions, "n_ctx");
  }
  keys.read(config.n_embd, "n_embd", "hidden_size");
  keys.read(config.n_layer, "n_layer", "num_hidden_layers");
  keys.read(config.n_head, "n_head", "num_attention_heads");
  keys.read(config.n_inner, "n_inner");
  config.activation = read_activation(keys);
  keys.read(config.resid_pdrop, "resid_pdrop");
  keys.read(config.embd_pdrop, "embd_pdrop");
  keys.read(config.attn_pdrop, "attn_pdrop");
  keys.read(config.layer_norm_epsilon, "layer_norm_epsilon");
  keys.read(config.initializer_range, "initializer_range");
  keys.read(config.tie_word_embeddings, "tie_word_embeddings");
  keys.read_if_integer(config.bos_token_id, "bos_token_id");
  keys.read_if_integer(config.eos_token_id, "eos_token_id");
  config.validate(where);
  return config;
}

void Gpt2Config::validate(std::string_view where) const {
  const auto fail = [&](const char* key, const std::string& rule, const std::string& value) {
    throw ConfigError(std::string(where) + ": \"" + key + "\" must be " + rule + ", not " + value);
  };
  struct Bound {
    const char* key;
    std::int64_t value, largest;
  };
  constexpr std::int64_t kExtentMax = std::int64_t{1} << 31;  // products of two stay below 2^63
  constexpr std::int64_t kLayersMax = 1 << 16;                // each is a unit that is laid out
  for (const auto& [key, value, largest] :
       {Bound{"vocab_size", vocab_size, kExtentMax}, Bound{"n_positions", n_positions, kExtentMax},
        Bound{"n_embd", n_embd, kExtentMax / 4}, Bound{"n_layer", n_layer, kLayersMax},
        Bound{"n_head", n_head, kExtentMax}, Bound{"n_inner", n_inner.value_or(1), kExtentMax}}) {
    if (value < 1 || value > largest) {
      fail(key, "from 1 to " + std::to_string(largest), std::to_string(value));
    }
  }
  if (n_embd % n_head != 0) {
    fail("n_embd", "a multiple of \"n_head\" (" + std::to_string(n_head) + ")",
         std::to_string(n_embd));
  }
  for (const auto& [key, rate] : std::initializer_list<std::pair<const char*, double>>{
           {"resid_pdrop", resid_pdrop}, {"embd_pdrop", embd_pdrop}, {"attn_pdrop", attn_pdrop}}) {
    if (!(rate >= 0.0 && rate < 1.0)) fail(key, "at least 0 and below 1", std::to_string(rate));
  }
  if (!(layer_norm_epsilon > 0.0)) {
    fail("layer_norm_epsilon", "positive", std::to_string(layer_norm_epsilon));
  }
  if (!(initializer_range >= 0.0 && std::isfinite(initializer_range))) {
    fail("initializer_range", "finite and not negative", std::to_string(initializer_range));
  }
}

Gpt2Config Gpt2Config::preset(std::string_view name) {
  for (const Preset& preset : kPresets) {
    if (preset.name != name) continue;
    Gpt2Config config;
    config.n_layer = preset.n_layer;
    config.n_embd = preset.n_embd;
    config.n_head = preset.n_head;
    config.n_positions = preset.n_positions;
    config.vocab_size = preset.vocab_size;
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = preset.dropout;
    if (preset.vocab_size == kGpt2EndOfText + 1) {
      config.bos_token_id = config.eos_token_id = kGpt2EndOfText;
    }
    return config;
  }
  std::string names;
  for (const std::string_view known : preset_names()) names.append(" ").append(known);
  throw ConfigError("no preset is named \"" + std::string(name) + "\"; there are:" + names);
}

std::vector<std::string_view> Gpt2Config::preset_names() {
  std::vector<std::string_view> names;
  names.reserve(std::size(kPresets));
  for (const Preset& preset : kPresets) names.push_back(preset.name);
  return names;
}

std::string Gpt2Config::to_json(std::string_view dtype, std::string_view original) const {
  ConfigWriter out(original);
  out.set("architectures", {"GPT2LMHeadModel"});
  out.set("model_type", "gpt2");
  out.set("vocab_size", vocab_size);
  out.set("n_positions", n_positions);
  if (original.empty()) out.set("n_ctx", n_positions);
  out.set("n_embd", n_embd);
  out.set("n_layer", n_layer);
  out.set("n_head", n_head);
  out.set("n_inner", json_of(n_inner));
  if (activation_named(out.text("activation_function")) != activation) {
    out.set("activation_function", activation == Activation::kGeluTanh ? "gelu_new" : "gelu");
  }
  out.set("resid_pdrop", resid_pdrop);
  out.set("embd_pdrop", embd_pdrop);
  out.set("attn_pdrop", attn_pdrop);
  out.set("layer_norm_epsilon", layer_norm_epsilon);
  out.set("initializer_range", initializer_range);
  out.set("tie_word_embeddings", tie_word_embeddings);
  if (original.empty()) {
    out.set("bos_token_id", json_of(bos_token_id));
    out.set("eos_token_id", json_of(eos_token_id));
  }
  // "dtype" has been transformers' name for it since its version 5.
  const bool is_new = out.has("dtype");
  if (is_new) out.set("dtype", dtype);
  if (!is_new || out.has("torch_dtype")) out.set("torch_dtype", dtype);
  return out.text();
}

}  // namespace strata::models
