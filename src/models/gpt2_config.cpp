#include "strata/models/gpt2_config.h"

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "strata/base/error.h"
#include "strata/formats/json.h"

namespace strata::models {

namespace {

using formats::JsonType;
using formats::JsonValue;

/// Reads of a config's keys that leave a value as it is where the key is absent or null.
class KeyReader {
 public:
  explicit KeyReader(JsonValue object) : object_(std::move(object)) {}

  /// The value at `key`, or at `alias`, another name that transformers takes for it.
  [[nodiscard]] std::optional<JsonValue> find(std::string_view key,
                                              std::string_view alias = {}) const {
    std::optional<JsonValue> found = object_.find(key);
    if (!found && !alias.empty()) found = object_.find(alias);
    if (found && found->is(JsonType::kNull)) return std::nullopt;
    return found;
  }

  void read(std::int64_t& value, std::string_view key, std::string_view alias = {}) const {
    if (const auto found = find(key, alias)) value = found->as_int64();
  }
  void read(std::optional<std::int64_t>& value, std::string_view key) const {
    if (const auto found = find(key)) value = found->as_int64();
  }
  void read(double& value, std::string_view key) const {
    if (const auto found = find(key)) value = found->as_double();
  }
  void read(bool& value, std::string_view key) const {
    if (const auto found = find(key)) value = found->as_bool();
  }

  /// A switch of which one position is supported.
  void require(std::string_view key, bool supported) const {
    const auto found = find(key);
    if (found && found->as_bool() != supported) {
      found->fail(supported ? "false is not supported; only true is"
                            : "true is not supported; only false is");
    }
  }

 private:
  JsonValue object_;
};

Gpt2Config::Activation read_activation(const KeyReader& keys) {
  const auto found = keys.find("activation_function");
  if (!found) return Gpt2Config::Activation::kGeluTanh;
  const std::string& name = found->as_string();
  if (name == "gelu_new" || name == "gelu_pytorch_tanh") return Gpt2Config::Activation::kGeluTanh;
  if (name == "gelu") return Gpt2Config::Activation::kGelu;
  found->fail("\"" + name + "\" is not supported; supported: gelu_new, gelu_pytorch_tanh, gelu");
}

void require_gpt2(const JsonValue& json) {
  const JsonValue model_type = json.at("model_type");
  if (model_type.as_string() != "gpt2") {
    model_type.fail("\"" + model_type.as_string() + "\" is not supported; supported: gpt2");
  }
}

/// What GPT-2 configs can ask for and a `Gpt2` does not do.
void require_supported(const KeyReader& keys) {
  keys.require("scale_attn_weights", true);
  keys.require("scale_attn_by_inverse_layer_idx", false);
  keys.require("add_cross_attention", false);
  keys.require("is_encoder_decoder", false);
  if (const auto quantization = keys.find("quantization_config")) {
    quantization->fail("quantized models are not supported; use the original weights");
  }
}

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

nlohmann::ordered_json json_of(const std::optional<std::int64_t>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json();
}

}  // namespace

Gpt2Config Gpt2Config::from_json(std::string_view text, std::string_view where) {
  const JsonValue json = JsonValue::parse(text, std::string(where), formats::JsonRole::kConfig);
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
  keys.read(config.bos_token_id, "bos_token_id");
  keys.read(config.eos_token_id, "eos_token_id");
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
  for (const Preset& preset : kPresets) names.push_back(preset.name);
  return names;
}

std::string Gpt2Config::to_json(std::string_view dtype) const {
  nlohmann::ordered_json json;
  json["architectures"] = {"GPT2LMHeadModel"};
  json["model_type"] = "gpt2";
  json["vocab_size"] = vocab_size;
  json["n_positions"] = n_positions;
  json["n_ctx"] = n_positions;
  json["n_embd"] = n_embd;
  json["n_layer"] = n_layer;
  json["n_head"] = n_head;
  json["n_inner"] = json_of(n_inner);
  json["activation_function"] = activation == Activation::kGeluTanh ? "gelu_new" : "gelu";
  json["resid_pdrop"] = resid_pdrop;
  json["embd_pdrop"] = embd_pdrop;
  json["attn_pdrop"] = attn_pdrop;
  json["layer_norm_epsilon"] = layer_norm_epsilon;
  json["initializer_range"] = initializer_range;
  json["tie_word_embeddings"] = tie_word_embeddings;
  json["bos_token_id"] = json_of(bos_token_id);
  json["eos_token_id"] = json_of(eos_token_id);
  json["torch_dtype"] = dtype;
  return json.dump(2) + "\n";
}

}  // namespace strata::models
