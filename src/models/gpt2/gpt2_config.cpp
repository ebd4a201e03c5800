#include "strata/models/gpt2_config.h"

#include <array>
#include <cmath>
#include <iterator>
#include <utility>

#include "models/config_json.h"
#include "strata/base/error.h"

namespace strata::models {

namespace {

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

/// Features that GPT-2 configs can ask for and a `Gpt2` does not have.
void require_supported(const KeyReader& keys) {
  keys.require("scale_attn_weights", true);
  keys.require("scale_attn_by_inverse_layer_idx", false);
  require_plain_decoder(keys);
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

}  // namespace

Gpt2Config Gpt2Config::from_json(std::string_view text, std::string_view where) {
  const formats::JsonValue json = parse_config(text, where);
  const formats::JsonValue model_type = json.at("model_type");
  if (model_type.as_string() != "gpt2") {
    model_type.fail("\"" + model_type.as_string() + "\" is not a GPT-2's; that is gpt2");
  }
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
    fail_config(where, key, rule, value);
  };
  require_extent(where, "vocab_size", vocab_size, kExtentMax);
  require_extent(where, "n_positions", n_positions, kExtentMax);
  require_extent(where, "n_embd", n_embd, kExtentMax / 4);
  require_extent(where, "n_layer", n_layer, kLayersMax);
  require_extent(where, "n_head", n_head, kExtentMax);
  require_extent(where, "n_inner", n_inner.value_or(1), kExtentMax);
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
  out.set("n_inner", ConfigWriter::json_of(n_inner));
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
    out.set("bos_token_id", ConfigWriter::json_of(bos_token_id));
    out.set("eos_token_id", ConfigWriter::json_of(eos_token_id));
  }
  out.set_dtype(dtype);
  return out.text();
}

}  // namespace strata::models
