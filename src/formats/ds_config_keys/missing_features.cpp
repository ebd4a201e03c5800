#include "formats/ds_config_keys/rules.h"
#include "formats/ds_config_keys/sections.h"

namespace strata::formats {
namespace {

std::optional<JsonValue> member(const JsonValue& value, std::string_view name) {
  return value.is(JsonType::kObject) ? value.find(name) : std::nullopt;
}

/// The sections that are off until they say otherwise.
bool is_not_enabled(const JsonValue& section) {
  const auto enabled = member(section, "enabled");
  return section.is(JsonType::kObject) && (!enabled || !bool_of(*enabled));
}

/// The sections that are on unless they say otherwise.
bool is_disabled(const JsonValue& section) {
  const auto enabled = member(section, "enabled");
  return enabled && !bool_of(*enabled);
}

/// compression_training has a section for each method, each with settings that its groups share.
bool compresses_nothing(const JsonValue& section) {
  if (!section.is(JsonType::kObject)) return false;
  for (const auto& [name, method] : section.members()) {
    const auto shared = member(method, "shared_parameters");
    if (!is_disabled(shared ? *shared : method)) return false;
  }
  return true;
}

bool is_one_way(const JsonValue& section) {
  const auto ways = member(section, "autotp_size");
  if (ways) return int64_of(*ways) <= 1;
  return is_disabled(section) || (section.is(JsonType::kObject) && section.members().empty());
}

// Keys that would train something else.
constexpr ConfigKey kMissingFeatureKeys[] = {
    refused("elasticity", "elastic batch sizes are not there; name the batch sizes",
            is_not_enabled),
    refused("progressive_layer_drop", "layers cannot be dropped; remove the section",
            is_not_enabled),
    refused("curriculum_learning", "curriculum learning is not there; remove the section",
            is_not_enabled),
    refused("data_efficiency",
            "curriculum learning and token dropping are not there; remove the section",
            is_not_enabled),
    refused("compression_training", "compression is not there; remove the section",
            compresses_nothing),
    refused("quantize_training", "quantization is not there; remove the section", is_not_enabled),
    refused("weight_quantization", "quantization is not there; remove the section", is_disabled),
    refused("sparse_attention", "attention belongs to the model; remove the section", is_disabled),
    refused("tensor_parallel",
            "tensor parallelism is not there, and there is one rank; remove the "
            "section",
            is_one_way),
    refused("expert_parallel", "expert parallelism is not there; remove the section",
            is_not_enabled),
};

}  // namespace

std::span<const ConfigKey> missing_feature_keys() { return kMissingFeatureKeys; }

}  // namespace strata::formats
