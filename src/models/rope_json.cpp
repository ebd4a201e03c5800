#include "models/rope_json.h"

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
using RopeType = RopeConfig::Type;

constexpr std::array<std::pair<std::string_view, RopeType>, 5> kTypes = {
    {{"default", RopeType::kDefault},
     {"linear", RopeType::kLinear},
     {"dynamic", RopeType::kDynamic},
     {"llama3", RopeType::kLlama3},
     {"yarn", RopeType::kYarn}}};
constexpr std::string_view kOriginal = "original_max_position_embeddings";
constexpr std::string_view kShare = "partial_rotary_factor";

std::string_view name_of(RopeType type) {
  for (const auto& [name, value] : kTypes) {
    if (value == type) return name;
  }
  return "default";
}

RopeType type_of(const KeyReader& keys) {
  const std::optional<JsonValue> type = keys.find("rope_type"), old = keys.find("type");
  if (type && old && type->as_string() != old->as_string()) {
    old->fail("is another name of \"rope_type\", which says \"" + type->as_string() +
              "\"; leave the one that is meant");
  }
  if (!type && !old) return RopeType::kDefault;
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
std::span<const std::string_view> keys_of(RopeType type) {
  switch (type) {
    case RopeType::kDefault: return {};
    case RopeType::kLinear:
    case RopeType::kDynamic: return kKeysOfScaling;
    case RopeType::kLlama3: return kKeysOfLlama3;
    case RopeType::kYarn: return kKeysOfYarn;
  }
  return {};
}

/// Refuses keys that the type does not have: they would be ignored, and are meant to change
/// something.
void require_known_keys(const JsonValue& object, RopeType type, bool has_share) {
  constexpr std::array<std::string_view, 4> kAlways = {"type", "rope_type", "rope_theta",
                                                       kOriginal};
  const std::span<const std::string_view> known = keys_of(type);
  for (const JsonValue::Member& member : object.members()) {
    if (member.value.is(JsonType::kNull) ||
        std::find(kAlways.begin(), kAlways.end(), member.key) != kAlways.end() ||
        std::find(known.begin(), known.end(), member.key) != known.end()) {
      continue;
    }
    if (member.key == kShare && !member.value.is(JsonType::kObject) &&
        (has_share || member.value.as_double() == 1.0)) {
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

/// What stands beside the object.
struct Outside {
  std::optional<JsonValue> theta, share, original;
};

/// A number that may stand inside the object and beside it.
void read_once(double& value, const std::optional<JsonValue>& inner,
               const std::optional<JsonValue>& outer) {
  if (inner && outer && inner->as_double() != outer->as_double()) {
    inner->fail("differs from the one outside; leave the one that is meant");
  }
  if (inner || outer) value = (inner ? *inner : *outer).as_double();
}

/// Reads one spelling.
RopeConfig read_object(const JsonValue& object, const Outside& outside,
                       const RopeDefaults& defaults) {
  const std::int64_t context = defaults.context;
  const std::optional<JsonValue>& original = outside.original;
  const KeyReader keys(object);
  RopeConfig rope;
  rope.theta = defaults.theta;
  rope.share = defaults.share;
  rope.type = type_of(keys);
  require_known_keys(object, rope.type, !defaults.share_key.empty());
  read_once(rope.theta, keys.find("rope_theta"), outside.theta);
  if (!defaults.share_key.empty()) read_once(rope.share, keys.find(kShare), outside.share);
  if (rope.type == RopeType::kDefault) return rope;

  if (rope.type == RopeType::kLlama3 || rope.type == RopeType::kYarn) {
    const auto inner = keys.find(kOriginal);
    if (inner && original && inner->as_int64() != original->as_int64()) {
      inner->fail("differs from the one outside; leave the one that is meant");
    }
    rope.original_context = inner ? inner->as_int64() : original ? original->as_int64() : context;
  }
  if (rope.type == RopeType::kYarn && !keys.find("factor") && rope.original_context > 0) {
    rope.factor = static_cast<double>(context) / static_cast<double>(rope.original_context);
  } else {
    rope.factor = required(object, keys, "factor");
  }
  if (rope.type == RopeType::kLlama3) {
    rope.low_freq_factor = required(object, keys, "low_freq_factor");
    rope.high_freq_factor = required(object, keys, "high_freq_factor");
  }
  if (rope.type == RopeType::kYarn) {
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

/// The base beside the object, under the type's own name or "rope_theta".
std::optional<JsonValue> theta_outside(const KeyReader& keys, std::string_view own_key) {
  std::optional<JsonValue> own = keys.find(own_key), common = keys.find("rope_theta");
  if (own && common && own->as_double() != common->as_double()) {
    common->fail("differs from \"" + std::string(own_key) + "\"; leave the one that is meant");
  }
  return own ? own : common;
}

}  // namespace

RopeConfig read_rope(const KeyReader& keys, const RopeDefaults& defaults) {
  const std::optional<JsonValue> parameters = keys.find("rope_parameters"),
                                 scaling = keys.find("rope_scaling");
  const Outside outside = {
      .theta = theta_outside(keys, defaults.theta_key),
      .share = defaults.share_key.empty() ? std::nullopt : keys.find(defaults.share_key),
      .original = keys.find(kOriginal)};
  const auto read = [&](const JsonValue& object) { return read_object(object, outside, defaults); };
  if (is_empty(parameters) && is_empty(scaling)) {
    RopeConfig rope;
    rope.theta = defaults.theta;
    rope.share = defaults.share;
    read_once(rope.theta, std::nullopt, outside.theta);
    read_once(rope.share, std::nullopt, outside.share);
    return rope;
  }
  if (is_empty(scaling)) return read(*parameters);
  if (is_empty(parameters)) return read(*scaling);
  const RopeConfig rope = read(*parameters);
  RopeConfig other = read(*scaling);
  const KeyReader in_scaling(*scaling);
  if (!in_scaling.find("rope_theta") && !outside.theta) other.theta = rope.theta;
  if (!in_scaling.find(kShare) && !outside.share) other.share = rope.share;
  if (other != rope) {
    scaling->fail("differs from \"rope_parameters\"; leave the one that is meant");
  }
  return rope;
}

std::pair<RopeConfig, RopeConfig> read_ropes_by_layer(const KeyReader& keys,
                                                      const RopeDefaults& defaults,
                                                      double sliding_theta) {
  constexpr std::string_view kFull = "full_attention", kSliding = "sliding_attention";
  const std::optional<JsonValue> parameters = keys.find("rope_parameters"),
                                 scaling = keys.find("rope_scaling"),
                                 original = keys.find(kOriginal);
  const bool is_nested = !is_empty(parameters);
  if (is_nested) {
    for (const JsonValue::Member& member : parameters->members()) {
      if (member.key == kFull || member.key == kSliding) continue;
      member.value.fail("is not understood: this type has \"rope_parameters\" of \"" +
                        std::string(kFull) + "\" and of \"" + std::string(kSliding) + "\"");
    }
    if (!is_empty(scaling)) {
      scaling->fail("stands beside \"rope_parameters\"; leave the one that is meant");
    }
  }
  const auto read = [&](std::string_view kind, std::string_view theta_key, double theta,
                        std::optional<JsonValue> object) {
    RopeDefaults own = defaults;
    own.theta = theta;
    if (is_nested) object = KeyReader(*parameters).find(kind);
    const Outside outside = {.theta = keys.find(theta_key), .share = {}, .original = original};
    if (object) return read_object(*object, outside, own);
    RopeConfig rope;
    rope.theta = own.theta;
    read_once(rope.theta, std::nullopt, outside.theta);
    return rope;
  };
  return {read(kFull, "rope_theta", defaults.theta, scaling),
          read(kSliding, "rope_local_base_freq", sliding_theta, std::nullopt)};
}

void write_rope(ConfigWriter& out, const RopeConfig& rope, const char* theta_key) {
  using Json = ConfigWriter::Json;
  out.set(theta_key, rope.theta);
  if (rope.type == RopeType::kDefault) {
    out.set("rope_scaling", Json());
    return;
  }
  Json scaling = Json::object();
  scaling["rope_type"] = name_of(rope.type);
  scaling["factor"] = rope.factor;
  if (rope.original_context > 0) scaling[std::string(kOriginal)] = rope.original_context;
  if (rope.type == RopeType::kLlama3) {
    scaling["low_freq_factor"] = rope.low_freq_factor;
    scaling["high_freq_factor"] = rope.high_freq_factor;
  }
  if (rope.type == RopeType::kYarn) {
    scaling["beta_fast"] = rope.beta_fast;
    scaling["beta_slow"] = rope.beta_slow;
    if (rope.attention_factor) scaling["attention_factor"] = *rope.attention_factor;
    if (rope.mscale) scaling["mscale"] = *rope.mscale;
    if (rope.mscale_all_dim) scaling["mscale_all_dim"] = *rope.mscale_all_dim;
    scaling["truncate"] = rope.truncate;
  }
  out.set("rope_scaling", scaling);
}

void validate_rope(const RopeConfig& rope, std::int64_t head_width, std::string_view where) {
  const auto require_positive = [&](const char* key, double value) {
    if (value > 0.0 && std::isfinite(value)) return;
    fail_config(where, key, "positive and finite", std::to_string(value));
  };
  if (!(rope.theta > 1.0 && std::isfinite(rope.theta))) {
    fail_config(where, "rope_theta", "above 1 and finite", std::to_string(rope.theta));
  }
  require_positive("factor", rope.factor);
  if (!(rope.share > 0.0 && rope.share <= 1.0)) {
    fail_config(where, "partial_rotary_factor", "above 0 and at most 1",
                std::to_string(rope.share));
  }
  const std::int64_t rotary = rope.rotary_width(head_width);
  if (rotary < 2 || rotary % 2 != 0) {
    fail_config(where, rope.share < 1.0 ? "partial_rotary_factor" : "head_dim",
                "such that an even number of a head's elements rotates, as halves",
                std::to_string(rotary) + " of " + std::to_string(head_width));
  }
  if (rope.type == RopeType::kLlama3 || rope.type == RopeType::kYarn) {
    require_extent(where, "original_max_position_embeddings", rope.original_context, kExtentMax);
  }
  if (rope.type == RopeType::kLlama3) {
    require_positive("low_freq_factor", rope.low_freq_factor);
    if (!(rope.high_freq_factor > rope.low_freq_factor && std::isfinite(rope.high_freq_factor))) {
      fail_config(where, "high_freq_factor", "above \"low_freq_factor\"",
                  std::to_string(rope.high_freq_factor));
    }
  }
  if (rope.type == RopeType::kYarn) {
    require_positive("beta_fast", rope.beta_fast);
    require_positive("beta_slow", rope.beta_slow);
    require_positive("attention_factor", rope.attention_factor.value_or(1.0));
  }
}

}  // namespace strata::models
