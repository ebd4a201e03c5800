#include "plan_model.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "model_config_file.h"
#include "scaled_number.h"
#include "strata/base/error.h"
#include "strata/formats/model_directory.h"
#include "strata/models/gpt2_layout.h"

namespace strata::tool {
namespace {

constexpr std::int64_t kHeadWidth = 128;
constexpr std::int64_t kContext = 2048;

/// Blocks of a model of up to so many parameters: Brown et al. 2020, "Language Models are Few-Shot
/// Learners", table 2.1; between its 13B and its 175B the depth that 65B and 70B models have, and
/// beyond it that of the 1T model of Rajbhandari et al. 2021, "ZeRO-Infinity".
struct Depth {
  double parameters_max;
  std::int64_t blocks;
};
constexpr Depth kDepths[] = {{0.2e9, 12}, {2e9, 24},  {10e9, 32},
                             {40e9, 40},  {90e9, 80}, {300e9, 96}};
constexpr std::int64_t kDeepest = 128;

PlannedModel model_of_directory(const std::filesystem::path& path) {
  const formats::ModelDirectory directory(path);
  PlannedModel model{.name = path.string(),
                     .config = models::ModelConfig::from_json(directory.config_text(),
                                                              directory.config_path().string()),
                     .note = {}};
  if (model.config.ties_embeddings() && directory.find("lm_head.weight") != nullptr) {
    model.note =
        "the files hold lm_head.weight, which config.json ties to the embedding: if its values "
        "differ from the embedding's, finetune trains it as one of its own, and "
        "\"tie_word_embeddings\": false plans for that";
  }
  return model;
}

}  // namespace

models::Gpt2Config shape_of(double parameters) {
  models::Gpt2Config config;
  config.n_positions = kContext;
  config.n_layer = kDeepest;
  for (const Depth& depth : kDepths) {
    if (parameters > depth.parameters_max) continue;
    config.n_layer = depth.blocks;
    break;
  }
  const auto count_at = [&](std::int64_t width) {
    config.n_embd = width;
    config.n_head = width / kHeadWidth;
    return static_cast<double>(models::parameter_count(config));
  };
  // 12 L w^2 is most of it, so the width is below this.
  const auto at_most = static_cast<std::int64_t>(
      std::sqrt(parameters / (12.0 * static_cast<double>(config.n_layer))));
  std::int64_t width = std::max<std::int64_t>(at_most / kHeadWidth, 1) * kHeadWidth;
  while (width > kHeadWidth && count_at(width) > parameters) width -= kHeadWidth;
  if (count_at(width + kHeadWidth) - parameters < parameters - count_at(width)) width += kHeadWidth;
  const double count = count_at(width);
  if (count > 2 * parameters) {
    throw ConfigError("--params: a GPT with a vocabulary of 50257 has " +
                      std::to_string(static_cast<std::uint64_t>(count)) +
                      " parameters at least; give more, or a shape with --model-config");
  }
  return config;
}

PlannedModel planned_model(const PlanOptions& options) {
  if (options.model) return model_of_directory(*options.model);
  if (options.preset) {
    return {
        .name = *options.preset, .config = models::Gpt2Config::preset(*options.preset), .note = {}};
  }
  if (options.parameters) {
    const models::Gpt2Config config = shape_of(parse_parameters(*options.parameters));
    return {
        .name = "a GPT of " + *options.parameters + " parameters", .config = config, .note = {}};
  }
  const std::string where = options.model_config->string();
  return {.name = where,
          .config = models::ModelConfig::from_json(read_model_config(*options.model_config), where),
          .note = {}};
}

}  // namespace strata::tool
