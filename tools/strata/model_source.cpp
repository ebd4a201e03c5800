#include "model_source.h"

#include <cerrno>
#include <fstream>
#include <iterator>

#include "strata/base/error.h"
#include "strata/models/gpt2.h"
#include "strata/models/gpt2_checkpoint.h"

namespace strata::tool {
namespace {

constexpr std::size_t kConfigBytesMax = 1u << 20;

std::string read_config(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) {
    throw ConfigError("--model-config " + path.string() +
                      ": is a directory; name its config.json, or use --model");
  }
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  std::string text(kConfigBytesMax + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in.is_open() || in.bad()) throw system_error("cannot read", path.string(), errno);
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > kConfigBytesMax) {
    throw ConfigError("--model-config " + path.string() + ": is larger than 1 MiB; no config.json");
  }
  return text;
}

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
  std::string text = read_config(where);
  const models::Gpt2Config config = models::Gpt2Config::from_json(text, where);
  return random_model(where, config, std::move(text), options.seed);
}

}  // namespace strata::tool
