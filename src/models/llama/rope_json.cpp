#include "models/llama/rope_json.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace strata::models {

namespace {

using formats::JsonType;
using formats::JsonValue;
using Type = RopeConfig::Type;

constexpr std::array<std::pair<std::string_view, Type>, 5> kTypes = {{{"default", Type::kDefault},
                                                                      {"linear", Type::kLinear},
                                                                      {"dynamic", Type::kDynamic},
                                                                      {"llama3", Type::kLlama3},
                                                                      {"yarn", Type::kYarn}}};
constexpr std::string_view kOriginal = "original_max_position_embeddings";

std::string_view name_of(Type type) {
  for (const auto& [name, value] : kTypes) {
    if (value == type) return name;
  }
  return "default";
}

Type type_of(const KeyReader& keys) {
  const std::optional<JsonValue> type = keys.find("rope_type"), old = keys.find("type");
  if (type && old && type->as_string() != old->as_string()) {
    old->fail("is another name of \"rope_type\", which says \"" + type->as_string() +
              "\"; leave the one that is meant");
  }
  if (!type && !old) return Type::kDefault;
  const JsonValue& named = type ? *type : *old;
  std::string known;
  for (const auto& [name, value] : kTypes) {
    if (name == named.as_string()) return value;
    known.append(known.empty() ? "" : ", ").append(name);
  }
  named.fail("\"" + named.as_string() + "\" is not supported; supported: " + known);
}

constexpr std::array<std::string_view, 1> kKeysOfScaling = {"factor"};
constexpr std::array<std::string_view, 3> kKeysOfLlama3 = {"factor", "low_freq_factor",
                                                           "high_freq_factor"};
constexpr std::array<std::string_view, 7> kKeysOfYarn = {
    "factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"};

/// Keys of an object of this type, beside the type and the base.
std::span<const std::string_view> keys_of(Type type) {
  switch (type) {
    case Type::kDefault: return {};
    case Type::kLinear:
    case Type::kDynamic: return kKeysOfScaling;
    case Type::kLlama3: return kKeysOfLlama3;
    case Type::kYarn: return kKeysOfYarn;
  }
  return {};
}

/// Refuses keys that the type does not have: they would be ignored, and are meant to change
/// something.
void require_known_keys(const JsonValue& object, Type type) {
  constexpr std::array<std::string_view, 4> kAlways = {"type", "rope_type", "rope_theta",
                                                       kOriginal};
  const std::span<const std::string_view> known = keys_of(type);
  for (const JsonValue::Member& member : object.members()) {
    if (member.value.is(JsonType::kNull) ||
        std::find(kAlways.begin(), kAlways.end(), member.key) != kAlways.end() ||
        std::find(known.begin(), known.end(), member.key) != known.end()) {
      continue;
    }
    if (member.key == "partial_rotary_factor" && !member.value.is(JsonType::kObject) &&
        member.value.as_double() == 1.0) {
      continue;
    }
    member.value.fail("is not understood where \"rope_type\" is \"" + std::string(name_of(type)) +
                      "\"");
  }
}

double required(const JsonValue& object, const KeyReader& keys, std::string_view key) {
  if (const auto found = keys.find(key)) return found->as_double();
  object.fail("needs \"" + std::string(key) + "\"");
}

/// Reads one spelling. `theta` and `original` are those beside the object.
RopeConfig read_object(const JsonValue& object, const std::optional<JsonValue>& theta,
                       const std::optional<JsonValue>& original, std::int64_t context) {
  const KeyReader keys(object);
  RopeConfig rope;
  rope.type = type_of(keys);
  require_known_keys(object, rope.type);
  const auto inner_theta = keys.find("rope_theta");
  if (inner_theta && theta && inner_theta->as_double() != theta->as_double()) {
    inner_theta->fail("differs from the \"rope_theta\" outside; leave the one that is meant");
  }
  if (inner_theta || theta) rope.theta = (inner_theta ? *inner_theta : *theta).as_double();
  if (rope.type == Type::kDefault) return rope;

  if (rope.type == Type::kLlama3 || rope.type == Type::kYarn) {
    const auto inner = keys.find(kOriginal);
    if (inner && original && inner->as_int64() != original->as_int64()) {
      inner->fail("differs from the one outside; leave the one that is meant");
    }
    rope.original_context = inner ? inner->as_int64() : original ? original->as_int64() : context;
  }
  if (rope.type == Type::kYarn && !keys.find("factor") && rope.original_context > 0) {
    rope.factor = static_cast<double>(context) / static_cast<double>(rope.original_context);
  } else {
    rope.factor = required(object, keys, "factor");
  }
  if (rope.type == Type::kLlama3) {
    rope.low_freq_factor = required(object, keys, "low_freq_factor");
    rope.high_freq_factor = required(object, keys, "high_freq_factor");
  }
  if (rope.type == Type::kYarn) {
    keys.read(rope.attention_factor, "attention_factor");
    keys.read(rope.mscale, "mscale");
    keys.read(rope.mscale_all_dim, "mscale_all_dim");
    keys.read(rope.truncate, "truncate");
    // Zero means the default, in transformers too.
    if (const auto beta = keys.find("beta_fast"); beta && beta->as_double() != 0) {
      rope.beta_fast = beta->as_double();
    }
    if (const auto beta = keys.find("beta_slow"); beta && beta->as_double() != 0) {
      rope.beta_slow = beta->as_double();
    }
  }
  return rope;
}

bool is_empty(const std::optional<JsonValue>& object) {
  return !object || (object->is(JsonType::kObject) && object->members().empty());
}

}  // namespace

RopeConfig read_rope(const KeyReader& keys, std::int64_t context) {
  const std::optional<JsonValue> parameters = keys.find("rope_parameters"),
                                 scaling = keys.find("rope_scaling"),
                                 theta = keys.find("rope_theta"), original = keys.find(kOriginal);
  const auto read = [&](const JsonValue& object) {
    return read_object(object, theta, original, context);
  };
  if (is_empty(parameters) && is_empty(scaling)) {
    RopeConfig rope;
    if (theta) rope.theta = theta->as_double();
    return rope;
  }
  if (is_empty(scaling)) return read(*parameters);
  if (is_empty(parameters)) return read(*scaling);
  const RopeConfig rope = read(*parameters);
  RopeConfig other = read(*scaling);
  if (!KeyReader(*scaling).find("rope_theta") && !theta) other.theta = rope.theta;
  if (other != rope) {
    scaling->fail("differs from \"rope_parameters\"; leave the one that is meant");
  }
  return rope;
}

void write_rope(ConfigWriter& out, const RopeConfig& rope) {
  using Json = ConfigWriter::Json;
  out.set("rope_theta", rope.theta);
  if (rope.type == Type::kDefault) {
    out.set("rope_scaling", Json());
    return;
  }
  Json scaling = Json::object();
  scaling["rope_type"] = name_of(rope.type);
  scaling["factor"] = rope.factor;
  if (rope.original_context > 0) scaling[std::string(kOriginal)] = rope.original_context;
  if (rope.type == Type::kLlama3) {
    scaling["low_freq_factor"] = rope.low_freq_factor;
    scaling["high_freq_factor"] = rope.high_freq_factor;
  }
  if (rope.type == Type::kYarn) {
    scaling["beta_fast"] = rope.beta_fast;
    scaling["beta_slow"] = rope.beta_slow;
    if (rope.attention_factor) scaling["attention_factor"] = *rope.attention_factor;
    if (rope.mscale) scaling["mscale"] = *rope.mscale;
    if (rope.mscale_all_dim) scaling["mscale_all_dim"] = *rope.mscale_all_dim;
    scaling["truncate"] = rope.truncate;
  }
  out.set("rope_scaling", scaling);
}

void validate_rope(const RopeConfig& rope, std::string_view where) {
  const auto require_positive = [&](const char* key, double value) {
    if (value > 0.0 && std::isfinite(value)) return;
    fail_config(where, key, "positive and finite", std::to_string(value));
  };
  if (!(rope.theta > 1.0 && std::isfinite(rope.theta))) {
    fail_config(where, "rope_theta", "above 1 and finite", std::to_string(rope.theta));
  }
  require_positive("factor", rope.factor);
  if (rope.type == Type::kLlama3 || rope.type == Type::kYarn) {
    require_extent(where, "original_max_position_embeddings", rope.original_context, kExtentMax);
  }
  if (rope.type == Type::kLlama3) {
    require_positive("low_freq_factor", rope.low_freq_factor);
    if (!(rope.high_freq_factor > rope.low_freq_factor && std::isfinite(rope.high_freq_factor))) {
      fail_config(where, "high_freq_factor", "above \"low_freq_factor\"",
                  std::to_string(rope.high_freq_factor));
    }
  }
  if (rope.type == Type::kYarn) {
    require_positive("beta_fast", rope.beta_fast);
    require_positive("beta_slow", rope.beta_slow);
    require_positive("attention_factor", rope.attention_factor.value_or(1.0));
  }
}

}  // namespace strata::models
