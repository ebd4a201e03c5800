#include "strata/models/lora.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <span>
#include <utility>
#include <variant>

#include "models/tensor_names.h"
#include "strata/base/error.h"
#include "strata/base/shape_text.h"
#include "strata/formats/read_floats.h"
#include "strata/models/model_layout.h"

namespace strata::models {

namespace {

namespace fs = std::filesystem;

constexpr const char* kAdapterConfig = "adapter_config.json";
constexpr const char* kAdapterTensors = "adapter_model.safetensors";
constexpr std::string_view kPeftPrefix = "base_model.model.";
constexpr std::string_view kWeight = ".weight";
constexpr std::uintmax_t kConfigBytesMax = 1u << 20;
constexpr std::size_t kNamesShownMax = 5;

// PEFT's own choice for these types.
std::vector<std::string> usual_targets(const LlamaConfig& config) {
  if (config.has_fused_projections()) return {"qkv_proj"};
  return {"q_proj", "v_proj"};
}
std::vector<std::string> usual_targets(const NeoxConfig& config) {
  if (config.is_gptj()) return {"q_proj", "v_proj"};
  return {"query_key_value"};
}

/// A linear layer of a block.
struct LinearLayer {
  std::string full_name;  ///< "model.layers.3.mlp.up_proj"
  std::string in_block;   ///< "mlp.up_proj"
};

std::string last_part(const std::string& layer) { return layer.substr(layer.rfind('.') + 1); }

/// Takes out routers and experts, and what has the same names in blocks without: in transformers'
/// memory these are parts of larger tensors, of which PEFT has other adapters under such names.
void remove_routed(std::vector<LinearLayer>& layers) {
  std::set<std::string> names;
  for (const LinearLayer& layer : layers) {
    const bool is_routed = layer.full_name.ends_with(".gate") ||
                           layer.full_name.find(".experts.") != std::string::npos;
    if (is_routed) names.insert(last_part(layer.full_name));
  }
  std::erase_if(layers, [&names](const LinearLayer& layer) {
    return names.contains(last_part(layer.full_name));
  });
}

/// What has a matrix and takes adapters; but for the tables of the vocabulary, which are units of
/// one, "weight".
template <class Config>
std::vector<LinearLayer> linear_layers(const Config& config) {
  std::vector<LinearLayer> layers;
  for (const zero3::UnitLayout& unit : unit_layouts(config)) {
    for (const zero3::ParameterLayout& parameter : unit.parameters) {
      if (parameter.shape.size() != 2 || !parameter.name.ends_with(kWeight)) continue;
      std::string name = parameter.name.substr(0, parameter.name.size() - kWeight.size());
      layers.push_back({unit.full_name(name), std::move(name)});
    }
  }
  remove_routed(layers);
  return layers;
}

/// Their names in a block, each once, as a list.
std::string list_of(const std::vector<LinearLayer>& layers) {
  std::set<std::string> seen;
  std::string text;
  for (const LinearLayer& layer : layers) {
    if (seen.insert(layer.in_block).second) text += (text.empty() ? "" : ", ") + layer.in_block;
  }
  return text;
}

template <class Config>
ModelConfig adapted(Config config, LoraConfig lora, std::string_view where) {
  config.lora.reset();
  const std::vector<LinearLayer> layers = linear_layers(config);
  if (lora.targets.empty()) lora.targets = usual_targets(config);
  if (lora.targets == std::vector<std::string>{std::string(LoraConfig::kAllLinear)}) {
    std::set<std::string> names;
    for (const LinearLayer& layer : layers) {
      names.insert(last_part(layer.in_block));
    }
    lora.targets.assign(names.begin(), names.end());
  }
  // They are a set, which PEFT writes in any order.
  std::ranges::sort(lora.targets);
  lora.targets.erase(std::unique(lora.targets.begin(), lora.targets.end()), lora.targets.end());
  for (const std::string& target : lora.targets) {
    const LoraConfig alone{.targets = {target}};
    const auto is_adapted = [&](const LinearLayer& layer) { return alone.adapts(layer.full_name); };
    if (std::ranges::any_of(layers, is_adapted)) continue;
    throw ConfigError(std::string(where) + ": \"" + target +
                      "\" is no linear layer of this model's blocks, which are " + list_of(layers) +
                      "; name some of these, or " + std::string(LoraConfig::kAllLinear));
  }
  config.lora.emplace(std::move(lora));
  return config;
}

ModelConfig adapted(const Gpt2Config& /*config*/, const LoraConfig& /*lora*/,
                    std::string_view where) {
  throw ConfigError(std::string(where) +
                    ": a \"gpt2\" takes no adapters here; train it whole, or some of it "
                    "(strata.freeze), or take a model of another type");
}

ModelConfig bare(const Gpt2Config& config) { return config; }
template <class Config>
ModelConfig bare(Config config) {
  config.lora.reset();
  return config;
}

std::optional<LoraConfig> adapters_in(const Gpt2Config& /*config*/) { return std::nullopt; }
template <class Config>
std::optional<LoraConfig> adapters_in(const Config& config) {
  return config.lora;
}

fs::path part_of(const fs::path& directory, const char* name) {
  std::error_code error;
  if (fs::is_regular_file(directory / name, error)) return directory / name;
  throw DataError(directory.string() + ": holds no adapter of PEFT: there is no " + name +
                  " (adapter_model.bin is not read); name a directory that PEFT or strata "
                  "finetune --lora wrote");
}

std::string config_text(const fs::path& directory) {
  const fs::path path = part_of(directory, kAdapterConfig);
  std::error_code error;
  if (fs::file_size(path, error) > kConfigBytesMax) {
    throw DataError(path.string() + ": is larger than any adapter's config");
  }
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text(std::istreambuf_iterator<char>(file), {});
  if (!file) throw system_error("read", path.string(), errno);
  return text;
}

/// Adds a line about tensors, some of them by name.
void add_problem(std::string& problems, const char* kind, const std::vector<std::string>& names) {
  for (std::size_t i = 0; i < std::min(names.size(), kNamesShownMax); ++i) {
    problems += std::string("\n  ") + kind + ": " + names[i];
  }
  if (names.size() > kNamesShownMax) {
    problems +=
        std::string("\n  ") + kind + ": " + std::to_string(names.size() - kNamesShownMax) + " more";
  }
}

}  // namespace

ModelConfig with_lora(const ModelConfig& config, LoraConfig lora, std::string_view where) {
  return std::visit([&](const auto& family) { return adapted(family, std::move(lora), where); },
                    config.family());
}

ModelConfig without_lora(const ModelConfig& config) {
  return std::visit([](const auto& family) { return bare(family); }, config.family());
}

std::optional<LoraConfig> lora_of(const ModelConfig& config) {
  return std::visit([](const auto& family) { return adapters_in(family); }, config.family());
}

std::string peft_name(const std::string& full_name) { return std::string(kPeftPrefix) + full_name; }

AdapterDirectory::AdapterDirectory(fs::path path)
    : path_(std::move(path)),
      config_(LoraConfig::from_json(config_text(path_), config_path().string())),
      file_(part_of(path_, kAdapterTensors)) {}

fs::path AdapterDirectory::config_path() const { return path_ / kAdapterConfig; }

void AdapterDirectory::require_adapters_of(const ModelConfig& config) const {
  std::vector<std::string> missing, unfit, unexpected;
  std::set<std::string> used;
  for (const zero3::UnitLayout& unit : unit_layouts(config)) {
    for (const zero3::ParameterLayout& parameter : unit.parameters) {
      const std::string full_name = unit.full_name(parameter);
      if (!is_adapter_parameter(full_name)) continue;
      const std::string name = *used.insert(peft_name(full_name)).first;
      const formats::TensorInfo* const tensor = file_.find(name);
      if (tensor == nullptr) {
        missing.push_back(name + " " + shape_text(parameter.shape));
      } else if (tensor->shape != parameter.shape) {
        unfit.push_back(name + " is " + tensor->description() +
                        "; needed: " + shape_text(parameter.shape));
      }
    }
  }
  for (const formats::TensorInfo& tensor : file_.tensors()) {
    if (!used.contains(tensor.name)) unexpected.push_back(tensor.name);
  }
  std::string problems;
  add_problem(problems, "missing", missing);
  add_problem(problems, "does not fit", unfit);
  add_problem(problems, "unexpected", unexpected);
  if (problems.empty()) return;
  throw DataError(file_.path().string() + ": is no adapter of this model by " +
                  config_path().string() + ":" + problems);
}

void AdapterDirectory::read_f32(const std::string& full_name, std::uint64_t begin,
                                std::span<float> out) const {
  const formats::TensorInfo* const tensor = file_.find(peft_name(full_name));
  if (tensor == nullptr) {
    throw DataError(file_.path().string() + ": has no tensor " + peft_name(full_name));
  }
  formats::read_f32(file_, *tensor, begin, out);
}

}  // namespace strata::models
