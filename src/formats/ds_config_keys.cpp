#include "formats/ds_config_keys.h"

#include <algorithm>
#include <initializer_list>
#include <span>
#include <variant>
#include <vector>

#include "formats/ds_config_keys/sections.h"

namespace strata::formats {
namespace {

std::vector<ConfigKey> joined(std::initializer_list<std::span<const ConfigKey>> sections) {
  std::vector<ConfigKey> keys;
  for (const std::span<const ConfigKey> section : sections) {
    keys.insert(keys.end(), section.begin(), section.end());
  }
  return keys;
}

}  // namespace

std::span<const ConfigKey> config_keys() {
  static const std::vector<ConfigKey> keys =
      joined({batch_keys(), optimizer_keys(), scheduler_keys(), precision_keys(), zero_keys(),
              activation_checkpointing_keys(), aio_keys(), strata_keys(), top_level_keys(),
              reporting_keys(), missing_feature_keys()});
  return keys;
}

const ConfigKey* find_config_key(std::string_view path) {
  constexpr std::string_view kSection = "zero_optimization.";
  constexpr std::string_view kPrefix = "zero_optimization.stage3_";
  const auto names = [=](const ConfigKey& key) {
    return key.path == path || (key.path.starts_with(kPrefix) && path.starts_with(kSection) &&
                                key.path.substr(kPrefix.size()) == path.substr(kSection.size()));
  };
  const std::span<const ConfigKey> keys = config_keys();
  const auto found = std::find_if(keys.begin(), keys.end(), names);
  return found == keys.end() ? nullptr : &*found;
}

ElementBytes element_bytes_of(const ConfigKey& key) {
  if (const auto* const count = std::get_if<IntegerField>(&key.target)) {
    return count->bytes_per_element;
  }
  const auto* const count = std::get_if<OptionalIntegerField>(&key.target);
  return count != nullptr ? count->bytes_per_element : nullptr;
}

bool is_refused(const ConfigKey& key) {
  return std::holds_alternative<OnlyFalse>(key.target) ||
         std::holds_alternative<OnlyTrue>(key.target) ||
         std::holds_alternative<OnlyNumber>(key.target) ||
         std::holds_alternative<Refused>(key.target);
}

}  // namespace strata::formats
