#include "strata/models/lora_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "models/config_json.h"
#include "strata/base/error.h"

namespace strata::models {

namespace {

constexpr std::int64_t kRankMax = 1 << 16;

void check_values(const LoraConfig& lora, std::string_view where) {
  const auto fail = [&](const std::string& what) {
    throw ConfigError(std::string(where) + ": " + what);
  };
  if (lora.rank < 1 || lora.rank > kRankMax) {
    fail("r is " + std::to_string(lora.rank) + "; give 1 to " + std::to_string(kRankMax));
  }
  if (!std::isfinite(lora.alpha) || lora.alpha <= 0) fail("alpha must be a number above 0");
  if (!(lora.dropout >= 0 && lora.dropout < 1)) fail("dropout must be from 0 to below 1");
  for (const std::string& target : lora.targets) {
    if (target.empty()) fail("a target has no name; write targets=q_proj+v_proj");
  }
}

template <class Number>
Number number_of(std::string_view text, std::string_view part, std::string_view where) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw ConfigError(std::string(where) + ": \"" + std::string(part) + "\": \"" +
                      std::string(text) + "\" is no " +
                      (std::is_integral_v<Number> ? "whole number" : "number"));
  }
  return number;
}

/// The parts of `text` between separators, empty ones too.
std::vector<std::string_view> parts_of(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

/// Keys of an adapter_config.json that are read, or change nothing of a stored adapter. What all
/// others say must ask for nothing.
constexpr std::array<std::string_view, 19> kKnown = {
    "r", "lora_alpha", "lora_dropout", "target_modules", "peft_type", "task_type", "peft_version",
    "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "init_lora_weights",
    "megatron_core",      // names what megatron_config needs
    "qalora_group_size",  // means something beside use_qalora
    "runtime_config",
    // How weights began:
    "eva_config", "lora_ga_config", "loftq_config", "corda_config"};

/// Ways of beginning that leave the base as it is.
constexpr std::array<std::string_view, 3> kBeginnings = {"gaussian", "eva", "orthogonal"};

bool asks_for_nothing(const formats::JsonValue& value) {
  using formats::JsonType;
  switch (value.type()) {
    case JsonType::kNull: return true;
    case JsonType::kBoolean: return !value.as_bool();
    case JsonType::kString: return value.as_string().empty() || value.as_string() == "none";
    case JsonType::kArray: return value.elements().empty();
    case JsonType::kObject: return value.members().empty();
    case JsonType::kInteger:
    case JsonType::kNumber: return false;
  }
  return false;
}

std::vector<std::string> targets_of(const formats::JsonValue& value) {
  if (value.is(formats::JsonType::kString)) {
    if (value.as_string() != LoraConfig::kAllLinear) {
      value.fail("is a regular expression, which is not read; write a list of names of layers");
    }
    return {value.as_string()};
  }
  std::vector<std::string> targets;
  for (const formats::JsonValue& name : value.elements()) targets.push_back(name.as_string());
  if (targets.empty()) value.fail("is empty");
  return targets;
}

}  // namespace

LoraConfig LoraConfig::from_option(std::string_view text, std::string_view where) {
  LoraConfig lora;
  std::set<std::string_view> seen;
  for (const std::string_view part : parts_of(text, ',')) {
    const std::size_t equals = std::min(part.find('='), part.size());
    const std::string_view key = part.substr(0, equals);
    const std::string_view value = part.substr(std::min(equals + 1, part.size()));
    if (!seen.insert(key).second) {
      throw ConfigError(std::string(where) + ": " + std::string(key) + " is given twice");
    }
    if (key == "r") {
      lora.rank = number_of<std::int64_t>(value, part, where);
    } else if (key == "alpha") {
      lora.alpha = number_of<double>(value, part, where);
    } else if (key == "dropout") {
      lora.dropout = number_of<double>(value, part, where);
    } else if (key == "targets") {
      const std::vector<std::string_view> names = parts_of(value, '+');
      lora.targets.assign(names.begin(), names.end());
    } else {
      throw ConfigError(std::string(where) + ": \"" + std::string(part) +
                        "\" is none of r=, alpha=, dropout= and targets=; write it like "
                        "r=16,alpha=32,targets=q_proj+v_proj");
    }
  }
  if (!seen.contains("r")) {
    throw ConfigError(std::string(where) + ": has no r; write it like r=16,alpha=32");
  }
  if (!seen.contains("alpha")) lora.alpha = static_cast<double>(lora.rank);
  check_values(lora, where);
  return lora;
}

LoraConfig LoraConfig::from_json(std::string_view text, std::string_view where) {
  const formats::JsonValue json = parse_config(text, where);
  const formats::JsonValue type = json.at("peft_type");
  if (type.as_string() != "LORA") type.fail("only \"LORA\" is read");
  for (const auto& [key, value] : json.members()) {
    if (std::ranges::find(kKnown, key) == kKnown.end() && !asks_for_nothing(value)) {
      value.fail("is not supported, and may change what the adapter computes");
    }
  }
  if (const auto begin = json.find("init_lora_weights");
      begin && begin->is(formats::JsonType::kString) &&
      std::ranges::find(kBeginnings, begin->as_string()) == kBeginnings.end()) {
    begin->fail("is not supported: it may have changed the weights of the base");
  }
  LoraConfig lora{.rank = json.at("r").as_int64(), .alpha = json.at("lora_alpha").as_double()};
  if (const auto dropout = json.find("lora_dropout")) lora.dropout = dropout->as_double();
  lora.targets = targets_of(json.at("target_modules"));
  check_values(lora, where);
  return lora;
}

std::string LoraConfig::to_json(std::string_view base_model) const {
  nlohmann::ordered_json json = {{"base_model_name_or_path", base_model},
                                 {"bias", "none"},
                                 {"fan_in_fan_out", false},
                                 {"inference_mode", true},
                                 {"init_lora_weights", true},
                                 {"lora_alpha", alpha},
                                 {"lora_dropout", dropout},
                                 {"modules_to_save", nullptr},
                                 {"peft_type", "LORA"},
                                 {"r", rank},
                                 {"target_modules", targets},
                                 {"task_type", "CAUSAL_LM"},
                                 {"use_dora", false},
                                 {"use_rslora", false}};
  if (alpha == std::floor(alpha) && alpha < 1e15)
    json["lora_alpha"] = static_cast<std::int64_t>(alpha);
  return json.dump(2) + "\n";
}

bool LoraConfig::adapts(std::string_view layer) const {
  return std::ranges::any_of(targets, [&](const std::string& target) {
    return layer == target || layer.ends_with("." + target);
  });
}

bool is_adapter_parameter(std::string_view full_name) {
  return full_name.ends_with(std::string(".") + kLoraA + ".weight") ||
         full_name.ends_with(std::string(".") + kLoraB + ".weight");
}

}  // namespace strata::models
