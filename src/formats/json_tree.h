#pragma once

#include <cstdint>
#include <string>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include "formats/json_document.h"
#include "formats/quote.h"

namespace strata::formats::detail {

/// Line and column in a text, counted from 1; column 0: nothing of the line has been read.
struct TextPosition {
  std::uint32_t line = 1;
  std::uint32_t column = 0;
};

/// Throws the text's error: "<name>:<line>:<column>: <why>".
[[noreturn]] inline void fail_at(const JsonDocument& document, TextPosition position,
                                 const std::string& why) {
  throw_json_error(document.role, document.name + ":" + std::to_string(position.line) + ":" +
                                      std::to_string(position.column) + ": " + why);
}

/// Builds a document's nodes in the order of the text, and refuses values beyond the limits before
/// they are stored. Every call gets its place in the text.
class JsonTree {
 public:
  JsonTree(const JsonLimits& limits, JsonDocument& document)
      : limits_(limits), document_(document) {}

  /// The key of the value that comes next. Refuses one that the object has already.
  void key(std::string name, TextPosition position) {
    if (!open_.back().keys.insert(name).second) {
      fail_at(document_, position, "the key " + quote(name) + " stands twice");
    }
    key_ = std::move(name);
    key_line_ = position.line;
  }

  template <class Value>
  void add(JsonType type, Value&& value, TextPosition position) {
    if (document_.nodes.size() >= limits_.values_max) {
      fail_at(document_, position, "more than " + std::to_string(limits_.values_max) + " values");
    }
    JsonNode& node = document_.nodes.emplace_back();
    node.type = type;
    node.value = std::forward<Value>(value);
    node.line = position.line;
    if (open_.empty()) return;
    JsonNode* const parent = open_.back().node;
    node.parent = parent;
    if (parent->type == JsonType::kObject) {
      node.key = std::move(key_);
      node.line = key_line_;
    }
    std::get<JsonNode::Children>(parent->value).push_back(&node);
  }

  /// Begins an object or an array; values added until `close` are inside.
  void open(JsonType type, TextPosition position) {
    if (open_.size() >= limits_.depth_max) {
      fail_at(document_, position,
              "nested deeper than " + std::to_string(limits_.depth_max) + " levels");
    }
    add(type, JsonNode::Children{}, position);
    open_.push_back({&document_.nodes.back(), {}});
  }

  void close() { open_.pop_back(); }

 private:
  /// An object or array that is not closed yet.
  struct OpenValue {
    JsonNode* node;
    std::unordered_set<std::string> keys;
  };

  const JsonLimits& limits_;
  JsonDocument& document_;
  std::vector<OpenValue> open_;
  std::string key_;
  std::uint32_t key_line_ = 0;
};

}  // namespace strata::formats::detail
