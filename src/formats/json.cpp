#include "strata/formats/json.h"

#include <algorithm>
#include <cmath>

#include "formats/json_document.h"
#include "formats/quote.h"
#include "strata/base/error.h"

namespace strata::formats {

using detail::JsonNode;

namespace {

bool is_plain_key(std::string_view key) {
  return !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

std::string step_to(const JsonNode& node) {
  if (node.parent->type == JsonType::kObject) {
    return "." + (is_plain_key(node.key) ? node.key : quote(node.key));
  }
  const auto& siblings = node.parent->children();
  const auto place = std::find(siblings.begin(), siblings.end(), &node) - siblings.begin();
  return "[" + std::to_string(place) + "]";
}

/// The value that was found instead of the expected one: "a string ("fast")".
std::string found(const JsonNode& node) {
  std::string text(name_of(node.type));
  if (const auto* string = std::get_if<std::string>(&node.value)) {
    text += " (" + quote(*string) + ")";
  } else if (const auto* integer = std::get_if<std::int64_t>(&node.value)) {
    text += " (" + std::to_string(*integer) + ")";
  } else if (const auto* large = std::get_if<std::uint64_t>(&node.value)) {
    text += " (" + std::to_string(*large) + ")";
  }
  return text;
}

}  // namespace

std::string_view name_of(JsonType type) {
  switch (type) {
    case JsonType::kNull: return "null";
    case JsonType::kBoolean: return "a boolean";
    case JsonType::kInteger: return "an integer";
    case JsonType::kNumber: return "a number";
    case JsonType::kString: return "a string";
    case JsonType::kArray: return "an array";
    case JsonType::kObject: return "an object";
  }
  return "a value";
}

void detail::throw_json_error(JsonRole role, const std::string& message) {
  if (role == JsonRole::kData) throw DataError(message);
  throw ConfigError(message);
}

JsonValue::JsonValue(std::shared_ptr<const detail::JsonDocument> document, const JsonNode* node)
    : document_(std::move(document)), node_(node) {}

JsonValue JsonValue::parse(std::string_view text, std::string name, JsonRole role,
                           const JsonLimits& limits) {
  auto document = std::make_shared<detail::JsonDocument>();
  document->name = std::move(name);
  document->role = role;
  if (text.size() > limits.bytes_max) {
    detail::throw_json_error(role, document->name + ": " + std::to_string(text.size()) +
                                       " bytes of JSON, at most " +
                                       std::to_string(limits.bytes_max) + " are read");
  }
  if (role == JsonRole::kHjsonConfig) {
    detail::parse_hjson(text, limits, *document);
  } else {
    detail::parse_json(text, limits, *document);
  }
  const JsonNode* const root = &document->nodes.front();
  return {std::move(document), root};
}

JsonType JsonValue::type() const { return node_->type; }

void JsonValue::expect(JsonType expected) const {
  if (node_->type == expected) return;
  fail("expected " + std::string(name_of(expected)) + ", found " + found(*node_));
}

bool JsonValue::as_bool() const {
  expect(JsonType::kBoolean);
  return std::get<bool>(node_->value);
}

double JsonValue::as_double() const {
  if (const auto* integer = std::get_if<std::int64_t>(&node_->value)) {
    return static_cast<double>(*integer);
  }
  if (const auto* large = std::get_if<std::uint64_t>(&node_->value)) {
    return static_cast<double>(*large);
  }
  expect(JsonType::kNumber);
  return std::get<double>(node_->value);
}

std::int64_t JsonValue::as_int64() const {
  if (const auto* number = std::get_if<double>(&node_->value)) {
    constexpr double kExactMax = 9007199254740992.0;  // 2^53
    if (std::trunc(*number) != *number) fail("expected a whole number, found a fraction");
    if (std::abs(*number) > kExactMax) fail("too large for a whole number written with a point");
    return static_cast<std::int64_t>(*number);
  }
  expect(JsonType::kInteger);
  if (std::holds_alternative<std::uint64_t>(node_->value)) {
    fail("too large: " + found(*node_) + " is beyond 2^63");
  }
  return std::get<std::int64_t>(node_->value);
}

std::uint64_t JsonValue::as_uint64() const {
  expect(JsonType::kInteger);
  if (const auto* large = std::get_if<std::uint64_t>(&node_->value)) return *large;
  const auto value = std::get<std::int64_t>(node_->value);
  if (value < 0) fail("expected a number that is not negative, found " + std::to_string(value));
  return static_cast<std::uint64_t>(value);
}

const std::string& JsonValue::as_string() const {
  expect(JsonType::kString);
  return std::get<std::string>(node_->value);
}

std::vector<JsonValue> JsonValue::elements() const {
  expect(JsonType::kArray);
  std::vector<JsonValue> values;
  values.reserve(node_->children().size());
  for (const JsonNode* child : node_->children()) values.push_back({document_, child});
  return values;
}

std::vector<JsonValue::Member> JsonValue::members() const {
  expect(JsonType::kObject);
  std::vector<Member> members;
  members.reserve(node_->children().size());
  for (const JsonNode* child : node_->children()) {
    members.push_back({child->key, JsonValue(document_, child)});
  }
  return members;
}

std::optional<JsonValue> JsonValue::find(std::string_view key) const {
  expect(JsonType::kObject);
  for (const JsonNode* child : node_->children()) {
    if (child->key == key) return JsonValue(document_, child);
  }
  return std::nullopt;
}

JsonValue JsonValue::at(std::string_view key) const {
  auto value = find(key);
  if (!value) fail("the key " + quote(key) + " is missing");
  return *std::move(value);
}

std::size_t JsonValue::line() const { return node_->line; }

std::string JsonValue::path() const {
  std::string path;
  for (const JsonNode* node = node_; node->parent != nullptr; node = node->parent) {
    path.insert(0, step_to(*node));
  }
  return path.starts_with('.') ? path.substr(1) : path;
}

void JsonValue::fail(std::string_view why) const {
  std::string message = document_->name + ":" + std::to_string(line()) + ": ";
  const std::string place = path();
  if (!place.empty()) message += place + ": ";
  detail::throw_json_error(document_->role, message.append(why));
}

}  // namespace strata::formats
