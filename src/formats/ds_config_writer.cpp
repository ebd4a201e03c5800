#include <nlohmann/json.hpp>

#include "formats/ds_config_keys.h"
#include "strata/base/units.h"
#include "strata/formats/ds_config.h"

namespace strata::formats {
namespace {

using OrderedJson = nlohmann::ordered_json;

/// The value of a key in the words of the file; null when it is not written.
struct Formatter {
  DsConfig& config;

  OrderedJson operator()(const BoolField& target) const { return target.field(config); }
  OrderedJson operator()(const OptionalBoolField& target) const {
    if (target.field(config)) return *target.field(config);
    return target.open_is_auto ? OrderedJson("auto") : OrderedJson(nullptr);
  }
  OrderedJson operator()(const OptionalIntegerField& target) const {
    if (!target.field(config)) return nullptr;
    return *target.field(config);
  }
  OrderedJson operator()(const IntegerField& target) const {
    const std::int64_t number = target.field(config);
    if (number == 0 && target.zero_is_auto) return "auto";
    return number;
  }
  OrderedJson operator()(const NumberField& target) const { return target.field(config); }
  OrderedJson operator()(const OptionalNumberField& target) const {
    if (!target.field(config)) return "auto";
    return *target.field(config);
  }
  OrderedJson operator()(const BetasField&) const {
    return {config.optimizer.beta1, config.optimizer.beta2};
  }
  OrderedJson operator()(const PathField& target) const { return text(target.field(config)); }
  OrderedJson operator()(const PathListField& target) const { return target.field(config); }
  OrderedJson operator()(const TextField& target) const { return text(target.field(config)); }
  OrderedJson operator()(const TextListField& target) const { return target.field(config); }
  OrderedJson operator()(const ParameterGroupsField&) const {
    OrderedJson groups = OrderedJson::array();
    for (const ParameterGroupConfig& group : config.strata.parameter_groups) {
      OrderedJson written = {{"params", group.params}};
      if (group.lr) written["lr"] = *group.lr;
      if (group.lr_scale) written["lr_scale"] = *group.lr_scale;
      if (group.weight_decay) written["weight_decay"] = *group.weight_decay;
      groups.push_back(std::move(written));
    }
    return groups;
  }
  OrderedJson operator()(const BytesField& target) const { return target.field(config); }
  OrderedJson operator()(const OptionalBytesField& target) const {
    if (!target.field(config)) return nullptr;
    return *target.field(config);
  }
  OrderedJson operator()(const ChoiceField& target) const {
    const std::string_view word = target.words[target.get(config)];
    if (word.empty()) return nullptr;
    return word;
  }
  OrderedJson operator()(const CpuFlag&) const { return nullptr; }
  OrderedJson operator()(const WithoutEffect&) const { return nullptr; }
  OrderedJson operator()(const OnlyFalse&) const { return nullptr; }
  OrderedJson operator()(const OnlyTrue&) const { return nullptr; }
  OrderedJson operator()(const OnlyNumber&) const { return nullptr; }
  OrderedJson operator()(const Refused&) const { return nullptr; }

  static OrderedJson text(const std::string& value) {
    if (value.empty()) return nullptr;
    return value;
  }
};

/// The place of `path` in `root`; sections are made on the way.
OrderedJson& place_of(std::string_view path, OrderedJson& root) {
  OrderedJson* at = &root;
  while (true) {
    const auto dot = path.find('.');
    at = &(*at)[std::string(path.substr(0, dot))];
    if (dot == std::string_view::npos) return *at;
    path.remove_prefix(dot + 1);
  }
}

/// The bytes of a count of elements; saturates.
std::uint64_t bytes_of(std::uint64_t elements, std::uint64_t element_bytes) {
  std::uint64_t bytes = 0;
  const bool overflows = __builtin_mul_overflow(elements, element_bytes, &bytes);
  return overflows ? UINT64_MAX : bytes;
}

}  // namespace

std::string DsConfig::resolved_json() const {
  DsConfig config = *this;
  OrderedJson root = OrderedJson::object();
  for (const ConfigKey& key : config_keys()) {
    if (!key.alias_of.empty() || (key.applies != nullptr && !key.applies(config))) continue;
    const OrderedJson value = std::visit(Formatter{config}, key.target);
    if (value.is_null()) continue;
    place_of(key.path, root) = value;
    if (const ElementBytes element_bytes = element_bytes_of(key)) {
      place_of(std::string(key.path).append(kByteCountSuffix), root) =
          format_bytes(bytes_of(value.get<std::uint64_t>(), element_bytes(config)));
    }
  }
  return root.dump(2) + "\n";
}

}  // namespace strata::formats
