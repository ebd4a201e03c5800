#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <variant>
#include <vector>

#include "strata/formats/json.h"

namespace strata::formats::detail {

/// A value and its place. Nodes never move: the document keeps them in a deque.
struct JsonNode {
  using Children = std::vector<const JsonNode*>;

  const JsonNode* parent = nullptr;
  std::string key;  ///< key of a member of an object
  JsonType type = JsonType::kNull;
  std::uint32_t line = 0;
  /// Whole numbers are int64_t where they fit, else uint64_t.
  std::variant<std::monostate, bool, std::int64_t, std::uint64_t, double, std::string, Children>
      value;

  [[nodiscard]] const Children& children() const { return std::get<Children>(value); }
};

struct JsonDocument {
  std::string name;
  JsonRole role;
  std::deque<JsonNode> nodes;  ///< the first is the root
};

/// Throws the error type of `role`.
[[noreturn]] void throw_json_error(JsonRole role, const std::string& message);

/// Fill `document.nodes`; name and role are set, and the text is no longer than the limits say.
void parse_json(std::string_view text, const JsonLimits& limits, JsonDocument& document);
void parse_hjson(std::string_view text, const JsonLimits& limits, JsonDocument& document);

}  // namespace strata::formats::detail
