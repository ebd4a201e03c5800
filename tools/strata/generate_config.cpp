#include "generate_config.h"

#include <nlohmann/json.hpp>
#include <string>

#include "run_config.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::tool {
namespace {

constexpr const char* kDefaultName = "the defaults of strata generate";

/// The format that a config.json names; fp32 where it names none.
std::string format_of(std::string_view model_config) {
  const auto config = nlohmann::json::parse(model_config, nullptr, /*allow_exceptions=*/false);
  for (const char* key : {"dtype", "torch_dtype"}) {
    if (config.is_object() && config.contains(key) && config[key].is_string()) {
      return config[key].get<std::string>();
    }
  }
  return "float32";
}

formats::DsConfig default_config(bool on_nvme, std::string_view model_config) {
  const std::string format = format_of(model_config);
  nlohmann::json config = {
      {"train_micro_batch_size_per_gpu", 1},
      {"zero_optimization",
       {{"stage", 3}, {"offload_param", {{"device", on_nvme ? "nvme" : "cpu"}}}}}};
  if (format == "bfloat16") config["bf16"] = {{"enabled", true}};
  if (format == "float16") config["fp16"] = {{"enabled", true}};
  formats::DsConfig read = formats::DsConfig::from_text(config.dump(), kDefaultName);
  read.notes.clear();
  return read;
}

void take_out_training(formats::DsConfig& config) {
  config.train_batch_size = config.train_micro_batch_size_per_gpu = 1;
  config.gradient_accumulation_steps = 1;
  config.gradient_clipping = 0.0;
  config.scheduler = {};
  config.zero.offload_optimizer = {};
  config.activation_checkpointing = {};
  config.strata.activations_host_bytes.reset();
  config.strata.activations_nvme_bytes.reset();
  config.strata.recompute = true;
  config.strata.freeze.clear();  // all parameters are only read
  config.strata.parameter_groups.clear();
  config.strata.step_under_backward = false;
}

}  // namespace

formats::DsConfig generate_config(const GenerateOptions& options, std::string_view model_config) {
  formats::DsConfig config = options.config ? formats::DsConfig::from_file(*options.config)
                                            : default_config(!options.nvme.empty(), model_config);
  if (options.budget) apply_budget_option(*options.budget, config.strata);
  apply_nvme_option(options.nvme, config.strata);
  take_out_training(config);
  return config;
}

std::optional<std::uint64_t> kv_budget(const GenerateOptions& options) {
  if (!options.kv_budget) return std::nullopt;
  std::uint64_t bytes = 0;
  try {
    bytes = parse_bytes(*options.kv_budget);
  } catch (const ConfigError& error) {
    throw ConfigError("--kv-budget: " + std::string(error.what()));
  }
  if (bytes == 0) throw ConfigError("--kv-budget is 0; leave it out, or give a size such as 2GiB");
  return bytes;
}

}  // namespace strata::tool
