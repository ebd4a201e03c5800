#include "model_source.h"

#include <span>
#include <utility>

#include "model_config_file.h"
#include "strata/base/error.h"
#include "strata/models/adapter_checkpoint.h"
#include "strata/models/causal_lm.h"
#include "strata/models/checkpoint.h"
#include "strata/zero3/ranged_initializer.h"

namespace strata::tool {
namespace {

/// Random values that an interruption ends.
ParameterInitializer random_values(const models::ModelConfig& config, std::uint64_t seed,
                                   const Interruption& interruption) {
  const ParameterInitializer random = models::random_initializer(config, seed);
  const auto* const ranged = random.target<RangedInitializer>();
  return RangedInitializer(
      ranged->block_elements(),
      [fill = ranged->fill(), &interruption](const std::string& name, std::uint64_t begin,
                                             std::span<float> values) {
        interruption.check();
        fill(name, begin, values);
      });
}

ModelSource random_model(std::string name, const models::ModelConfig& config,
                         std::string config_text, std::uint64_t seed,
                         const Interruption& interruption) {
  config.validate(name);
  return {.name = std::move(name),
          .config = config,
          .config_text = std::move(config_text),
          .directory = nullptr,
          .adapter = nullptr,
          .initializer = random_values(config, seed, interruption)};
}

}  // namespace

ModelSource open_model_directory(const std::filesystem::path& path,
                                 const Interruption& interruption) {
  const auto check = [&interruption] { interruption.check(); };
  auto directory = std::make_unique<formats::ModelDirectory>(path);
  const models::ModelConfig config = models::checkpoint_config(*directory, check);
  const auto written =
      models::ModelConfig::from_json(directory->config_text(), directory->config_path().string());
  ParameterInitializer initializer = models::checkpoint_initializer(config, *directory, check);
  std::string config_text = directory->config_text();
  return {.name = path.string(),
          .config = config,
          .config_text = std::move(config_text),
          .has_own_head = written.ties_embeddings() && !config.ties_embeddings(),
          .directory = std::move(directory),
          .adapter = nullptr,
          .initializer = std::move(initializer)};
}

namespace {

void require_adaptable(const ModelSource& model) {
  if (model.config_text.empty() ||
      !models::ModelConfig::is_of_larger_model(model.config_text, model.name)) {
    return;
  }
  throw ConfigError(model.name +
                    ": is a larger model, for whose language model adapters would be written under "
                    "other names than PEFT has; train it whole, or freeze what stays "
                    "(strata.freeze)");
}

ModelSource open_base(const FinetuneOptions& options, const Interruption& interruption) {
  if (options.model) return open_model_directory(*options.model, interruption);
  if (options.preset) {
    return random_model(*options.preset, models::Gpt2Config::preset(*options.preset), "",
                        options.seed, interruption);
  }
  const std::string where = options.model_config->string();
  std::string text = read_model_config(where);
  const models::ModelConfig config = models::ModelConfig::from_json(text, where);
  if (models::ModelConfig::is_of_larger_model(text, where)) {
    throw ConfigError(where +
                      ": is of a larger model, which has more than a language model to begin with "
                      "random weights; name a directory that has them (--model), or a config with "
                      "what stands under \"text_config\" alone");
  }
  return random_model(where, config, std::move(text), options.seed, interruption);
}

}  // namespace

void add_adapter(ModelSource& model, const std::filesystem::path& path) {
  require_adaptable(model);
  model.adapter = std::make_unique<models::AdapterDirectory>(path);
  model.config = models::with_lora(model.config, model.adapter->config(),
                                   model.adapter->config_path().string());
  model.adapter->require_adapters_of(model.config);
  model.initializer = models::with_adapters_of(*model.adapter, model.initializer);
}

ModelSource open_model(const FinetuneOptions& options, const Interruption& interruption) {
  ModelSource model = open_base(options, interruption);
  if (options.lora) {
    require_adaptable(model);
    model.config = models::with_lora(
        model.config, models::LoraConfig::from_option(*options.lora, "--lora"), "--lora");
    model.initializer = models::with_new_adapters(model.config, model.initializer, options.seed);
  } else if (options.adapter) {
    add_adapter(model, *options.adapter);
  }
  return model;
}

}  // namespace strata::tool
