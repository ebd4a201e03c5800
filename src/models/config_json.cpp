#include "models/config_json.h"

#include <utility>

#include "strata/base/error.h"

namespace strata::models {

using formats::JsonType;
using formats::JsonValue;

namespace {

constexpr formats::JsonLimits kLimits = {
    .bytes_max = 16u << 20, .depth_max = 64, .values_max = 1u << 20};

std::optional<JsonValue> not_null(const JsonValue& object, std::string_view key) {
  std::optional<JsonValue> found = object.find(key);
  if (found && found->is(JsonType::kNull)) return std::nullopt;
  return found;
}

}  // namespace

JsonValue parse_config(std::string_view text, std::string_view where) {
  return JsonValue::parse(text, std::string(where), formats::JsonRole::kConfig, kLimits);
}

KeyReader::KeyReader(JsonValue object) : object_(std::move(object)) {}

std::optional<JsonValue> KeyReader::find(std::string_view key, std::string_view alias) const {
  std::optional<JsonValue> found = not_null(object_, key);
  if (alias.empty()) return found;
  const std::optional<JsonValue> other = not_null(object_, alias);
  if (found && other && found->as_int64() != other->as_int64()) {
    other->fail("is another name of \"" + std::string(key) + "\" and says " +
                std::to_string(other->as_int64()) + ", which says " +
                std::to_string(found->as_int64()) + "; leave the one that is meant");
  }
  return found ? found : other;
}

void KeyReader::read(std::int64_t& value, std::string_view key, std::string_view alias) const {
  if (const auto found = find(key, alias)) value = found->as_int64();
}

void KeyReader::read(std::optional<std::int64_t>& value, std::string_view key) const {
  if (const auto found = find(key)) value = found->as_int64();
}

void KeyReader::read(double& value, std::string_view key) const {
  if (const auto found = find(key)) value = found->as_double();
}

void KeyReader::read(std::optional<double>& value, std::string_view key) const {
  if (const auto found = find(key)) value = found->as_double();
}

void KeyReader::read(bool& value, std::string_view key) const {
  if (const auto found = find(key)) value = found->as_bool();
}

void KeyReader::read_if_integer(std::optional<std::int64_t>& value, std::string_view key) const {
  if (const auto found = find(key); found && found->is(JsonType::kInteger)) {
    value = found->as_int64();
  }
}

void KeyReader::require(std::string_view key, bool supported) const {
  const auto found = find(key);
  if (found && found->as_bool() != supported) {
    found->fail(supported ? "false is not supported; only true is"
                          : "true is not supported; only false is");
  }
}

void require_plain_decoder(const KeyReader& keys) {
  keys.require("add_cross_attention", false);
  keys.require("is_encoder_decoder", false);
  keys.require("is_causal", true);
  if (const auto heads = keys.find("pruned_heads"); heads && !heads->members().empty()) {
    heads->fail("pruned heads are not supported; only {} is");
  }
  if (const auto quantization = keys.find("quantization_config")) {
    quantization->fail("quantized models are not supported; use the original weights");
  }
}

void require_extent(std::string_view where, const char* key, std::int64_t value,
                    std::int64_t largest) {
  if (value >= 1 && value <= largest) return;
  fail_config(where, key, "from 1 to " + std::to_string(largest), std::to_string(value));
}

void fail_config(std::string_view where, const char* key, const std::string& rule,
                 const std::string& value) {
  throw ConfigError(std::string(where) + ": \"" + key + "\" must be " + rule + ", not " + value);
}

ConfigWriter::ConfigWriter(std::string_view original) {
  if (original.empty()) return;
  json_ = Json::parse(original, nullptr, /*allow_exceptions=*/false);
  if (!json_.is_object()) throw ConfigError("the original config.json is not a JSON object");
}

void ConfigWriter::set(const char* key, const Json& value) {
  if (!has(key) || json_[key] != value) json_[key] = value;
}

void ConfigWriter::set_dtype(std::string_view dtype) {
  // "dtype" has been transformers' name for it since its version 5.
  const bool is_new = has("dtype");
  if (is_new) set("dtype", dtype);
  if (!is_new || has("torch_dtype")) set("torch_dtype", dtype);
}

std::string ConfigWriter::text(const char* key) const {
  return has(key) && json_[key].is_string() ? json_[key].get<std::string>() : std::string();
}

}  // namespace strata::models
