#include <iterator>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "formats/json_document.h"
#include "formats/quote.h"

namespace strata::formats::detail {
namespace {

/// Place of the last character that the lexer has taken. After a number that is one too many, and
/// it may be a line feed: a line feed counts to the line it ends.
struct TextPosition {
  std::uint32_t line = 1;
  std::uint32_t column = 0;
  bool line_ended = false;

  void take(char c) {
    if (line_ended) {
      ++line;
      column = 0;
    }
    ++column;
    line_ended = c == '\n';
  }
};

/// Hands characters to the lexer and keeps count of lines.
class CountingIterator {
 public:
  // NOLINTBEGIN(readability-identifier-naming): the names that std::iterator_traits asks for
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;
  // NOLINTEND(readability-identifier-naming)

  CountingIterator(const char* at, TextPosition* position) : at_(at), position_(position) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    position_->take(*at_++);
    return *this;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  TextPosition* position_;
};

/// Builds the nodes from the parser's events and refuses what the limits forbid before it is
/// stored.
class TreeBuilder {
 public:
  using Json = nlohmann::json;

  TreeBuilder(const JsonLimits& limits, const TextPosition& position, JsonDocument& document)
      : limits_(limits), position_(position), document_(document) {}

  bool null() { return add(JsonType::kNull, std::monostate{}); }
  bool boolean(bool value) { return add(JsonType::kBoolean, value); }
  bool number_integer(std::int64_t value) { return add(JsonType::kInteger, value); }
  bool number_unsigned(std::uint64_t value) {
    if (value > std::uint64_t{INT64_MAX}) return add(JsonType::kInteger, value);
    return add(JsonType::kInteger, static_cast<std::int64_t>(value));
  }
  bool number_float(double value, const std::string& /*text*/) {
    return add(JsonType::kNumber, value);
  }
  bool string(std::string& value) { return add(JsonType::kString, std::move(value)); }
  bool binary(Json::binary_t& /*value*/) { return false; }  // no such thing in JSON text

  bool start_object(std::size_t /*count*/) { return open(JsonType::kObject); }
  bool start_array(std::size_t /*count*/) { return open(JsonType::kArray); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(std::string& name) {
    if (!open_.back().keys.insert(name).second) fail("the key " + quote(name) + " stands twice");
    key_ = std::move(name);
    key_line_ = position_.line;
    return true;
  }

  bool parse_error(std::size_t /*position*/, const std::string& /*token*/,
                   const Json::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while ..."
    std::string_view what = error.what();
    for (const std::string_view prefix : {"] ", "parse error", ": "}) {
      const auto at = what.find(prefix);
      if (at != std::string_view::npos) what.remove_prefix(at + prefix.size());
    }
    const auto token = what.find("; last read: ");
    if (token == std::string_view::npos) fail(std::string(what.substr(0, kMessageMax)));
    const auto expected = what.rfind("; expected ");
    std::string message(what.substr(0, token));
    if (expected != std::string_view::npos) message += what.substr(expected, kMessageMax);
    fail(message);
  }

 private:
  static constexpr std::size_t kMessageMax = 200;

  /// An object or array that is not closed yet.
  struct OpenValue {
    JsonNode* node;
    std::unordered_set<std::string> keys;
  };

  template <class Value>
  bool add(JsonType type, Value&& value) {
    if (document_.nodes.size() >= limits_.values_max) {
      fail("more than " + std::to_string(limits_.values_max) + " values");
    }
    JsonNode& node = document_.nodes.emplace_back();
    node.type = type;
    node.value = std::forward<Value>(value);
    node.line = position_.line;
    if (open_.empty()) return true;
    JsonNode* const parent = open_.back().node;
    node.parent = parent;
    if (parent->type == JsonType::kObject) {
      node.key = std::move(key_);
      node.line = key_line_;
    }
    std::get<JsonNode::Children>(parent->value).push_back(&node);
    return true;
  }

  bool open(JsonType type) {
    if (open_.size() >= limits_.depth_max) {
      fail("nested deeper than " + std::to_string(limits_.depth_max) + " levels");
    }
    add(type, JsonNode::Children{});
    open_.push_back({&document_.nodes.back(), {}});
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  [[noreturn]] void fail(const std::string& why) const {
    throw_json_error(document_.role, document_.name + ":" + std::to_string(position_.line) + ":" +
                                         std::to_string(position_.column) + ": " + why);
  }

  const JsonLimits& limits_;
  const TextPosition& position_;
  JsonDocument& document_;
  std::vector<OpenValue> open_;
  std::string key_;
  std::uint32_t key_line_ = 0;
};

}  // namespace

void parse_json(std::string_view text, const JsonLimits& limits, JsonDocument& document) {
  if (text.size() > limits.bytes_max) {
    throw_json_error(document.role, document.name + ": " + std::to_string(text.size()) +
                                        " bytes of JSON, at most " +
                                        std::to_string(limits.bytes_max) + " are read");
  }
  TextPosition position;
  TreeBuilder builder(limits, position, document);
  nlohmann::json::sax_parse(CountingIterator(text.data(), &position),
                            CountingIterator(text.data() + text.size(), &position), &builder);
}

}  // namespace strata::formats::detail
