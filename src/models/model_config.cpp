#include "strata/models/model_config.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <string>

#include "models/config_json.h"
#include "models/text_part.h"
#include "strata/base/error.h"

namespace strata::models {

namespace {

std::int64_t vocab_size_of(const Gpt2Config& config) { return config.vocab_size; }
std::int64_t context_of(const Gpt2Config& config) { return config.n_positions; }
std::int64_t width_of(const Gpt2Config& config) { return config.n_embd; }
std::int64_t& layers_of(Gpt2Config& config) { return config.n_layer; }

std::int64_t vocab_size_of(const LlamaConfig& config) { return config.vocab_size; }
std::int64_t context_of(const LlamaConfig& config) { return config.max_position_embeddings; }
std::int64_t width_of(const LlamaConfig& config) { return config.hidden_size; }
std::int64_t& layers_of(LlamaConfig& config) { return config.num_hidden_layers; }

std::int64_t vocab_size_of(const NeoxConfig& config) { return config.vocab_size; }
std::int64_t context_of(const NeoxConfig& config) { return config.max_position_embeddings; }
std::int64_t width_of(const NeoxConfig& config) { return config.hidden_size; }
std::int64_t& layers_of(NeoxConfig& config) { return config.num_hidden_layers; }

std::optional<Gpt2Config> narrower_of(Gpt2Config config) {
  if (config.n_head == 1) return std::nullopt;
  const std::int64_t heads = config.n_head / 2;
  if (config.n_inner) config.n_inner = *config.n_inner * heads / config.n_head;
  config.n_embd = config.head_dim() * heads;
  config.n_head = heads;
  return config;
}

std::optional<LlamaConfig> narrower_of(LlamaConfig config) {
  if (config.num_attention_heads == 1) return std::nullopt;
  const std::int64_t all = config.num_attention_heads, heads = all / 2;
  const auto part = [&](std::int64_t width) {
    return std::max<std::int64_t>(1, width * heads / all);
  };
  config.head_dim = config.head_width();
  config.hidden_size = part(config.hidden_size);
  config.intermediate_size = part(config.intermediate_size);
  if (config.moe_intermediate_size)
    *config.moe_intermediate_size = part(*config.moe_intermediate_size);
  config.num_key_value_heads = std::gcd(heads, part(config.num_key_value_heads));
  config.num_attention_heads = heads;
  return config;
}

std::optional<NeoxConfig> narrower_of(NeoxConfig config) {
  if (config.num_attention_heads == 1) return std::nullopt;
  const std::int64_t all = config.num_attention_heads, heads = all / 2;
  config.intermediate_size = std::max<std::int64_t>(1, config.intermediate_size * heads / all);
  config.hidden_size = config.head_width() * heads;
  config.num_attention_heads = heads;
  return config;
}

/// The families: which types each takes, and how it reads them.
struct FamilyReader {
  std::vector<std::string_view> (*model_types)();
  ModelConfig (*read)(std::string_view text, std::string_view where);
};

template <class Config>
constexpr FamilyReader reader_of(std::vector<std::string_view> (*model_types)()) {
  return {model_types, [](std::string_view text, std::string_view where) -> ModelConfig {
            return Config::from_json(text, where);
          }};
}

constexpr std::array kFamilies = {
    reader_of<Gpt2Config>([] { return std::vector<std::string_view>{"gpt2"}; }),
    reader_of<LlamaConfig>(&LlamaConfig::model_types),
    reader_of<NeoxConfig>(&NeoxConfig::model_types),
};

}  // namespace

ModelConfig ModelConfig::from_json(std::string_view text, std::string_view where) {
  const formats::JsonValue json = parse_config(text, where);
  const formats::JsonValue model_type = json.at("model_type");
  const std::string& type = model_type.as_string();
  for (const FamilyReader& family : kFamilies) {
    const std::vector<std::string_view> types = family.model_types();
    if (std::find(types.begin(), types.end(), type) != types.end()) return family.read(text, where);
  }
  if (has_text_part(json)) {
    return from_json(text_part(text, where), std::string(where) + ": text_config");
  }
  std::string known;
  for (const std::string_view name : model_types()) {
    known.append(known.empty() ? "" : ", ").append(name);
  }
  model_type.fail("\"" + type + "\" is not supported; supported: " + known);
}

bool ModelConfig::is_of_larger_model(std::string_view text, std::string_view where) {
  return has_text_part(text, where);
}

std::vector<std::string_view> ModelConfig::model_types() {
  std::vector<std::string_view> all;
  for (const FamilyReader& family : kFamilies) {
    const std::vector<std::string_view> types = family.model_types();
    all.insert(all.end(), types.begin(), types.end());
  }
  return all;
}

std::string ModelConfig::to_json(std::string_view dtype, std::string_view original) const {
  constexpr std::string_view kWhere = "the original config.json";
  if (!original.empty() && has_text_part(original, kWhere)) {
    return with_text_part(original, to_json(dtype, text_part(original, kWhere)), dtype);
  }
  return std::visit([&](const auto& config) { return config.to_json(dtype, original); }, family_);
}

void ModelConfig::validate(std::string_view where) const {
  std::visit([&](const auto& config) { config.validate(where); }, family_);
}

std::int64_t ModelConfig::vocab_size() const {
  return std::visit([](const auto& config) { return vocab_size_of(config); }, family_);
}

std::int64_t ModelConfig::context() const {
  return std::visit([](const auto& config) { return context_of(config); }, family_);
}

std::int64_t ModelConfig::width() const {
  return std::visit([](const auto& config) { return width_of(config); }, family_);
}

std::int64_t ModelConfig::layers() const {
  return std::visit([](auto config) { return layers_of(config); }, family_);
}

bool ModelConfig::ties_embeddings() const {
  return std::visit([](const auto& config) { return config.tie_word_embeddings; }, family_);
}

ModelConfig ModelConfig::with_own_head() const {
  ModelConfig changed = *this;
  std::visit([](auto& config) { config.tie_word_embeddings = false; }, changed.family_);
  return changed;
}

ModelConfig ModelConfig::with_layers(std::int64_t count) const {
  ModelConfig changed = *this;
  std::visit([count](auto& config) { layers_of(config) = count; }, changed.family_);
  return changed;
}

std::optional<ModelConfig> ModelConfig::narrower() const {
  return std::visit(
      [](const auto& config) -> std::optional<ModelConfig> { return narrower_of(config); },
      family_);
}

void ModelConfig::fail_as() {
  throw UsageError("a model's config was asked for as that of another family");
}

}  // namespace strata::models
