#include "model_source.h"

#include <utility>

#include "model_config_file.h"
#include "strata/base/error.h"
#include "strata/models/gpt2.h"
#include "strata/models/gpt2_checkpoint.h"

namespace strata::tool {
namespace {

ModelSource random_model(std::string name, const models::Gpt2Config& config,
                         std::string config_text, std::uint64_t seed) {
  config.validate(name);
  return {.name = std::move(name),
          .config = config,
          .config_text = std::move(config_text),
          .directory = nullptr,
          .initializer = models::random_initializer(config, seed)};
}

ModelSource saved_model(const std::filesystem::path& path, const Interruption& interruption) {
  const auto check = [&interruption] { interruption.check(); };
  auto directory = std::make_unique<formats::ModelDirectory>(path);
  const models::Gpt2Config config = models::checkpoint_config(*directory, check);
  const auto written =
      models::Gpt2Config::from_json(directory->config_text(), directory->config_path().string());
  ParameterInitializer initializer = models::checkpoint_initializer(config, *directory, check);
  std::string config_text = directory->config_text();
  return {.name = path.string(),
          .config = config,
          .config_text = std::move(config_text),
          .has_own_head = written.tie_word_embeddings && !config.tie_word_embeddings,
          .directory = std::move(directory),
          .initializer = std::move(initializer)};
}

}  // namespace

ModelSource open_model(const FinetuneOptions& options, const Interruption& interruption) {
  if (options.model) return saved_model(*options.model, interruption);
  if (options.preset) {
    return random_model(*options.preset, models::Gpt2Config::preset(*options.preset), "",
                        options.seed);
  }
  const std::string where = options.model_config->string();
  std::string text = read_model_config(where);
  const models::Gpt2Config config = models::Gpt2Config::from_json(text, where);
  return random_model(where, config, std::move(text), options.seed);
}

}  // namespace strata::tool
