#include <iterator>
#include <nlohmann/json.hpp>

#include "formats/json_document.h"
#include "formats/json_tree.h"

namespace strata::formats::detail {
namespace {

/// Place of the last character that the lexer has taken. After a number that is one too many, and
/// it may be a line feed: a line feed counts to the line it ends.
struct LexerPosition {
  TextPosition text;
  bool line_ended = false;

  void take(char c) {
    if (line_ended) {
      ++text.line;
      text.column = 0;
    }
    ++text.column;
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

  CountingIterator(const char* at, LexerPosition* position) : at_(at), position_(position) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    position_->take(*at_++);
    return *this;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  LexerPosition* position_;
};

/// Hands the parser's events to the tree.
class TreeBuilder {
 public:
  using Json = nlohmann::json;

  TreeBuilder(const JsonLimits& limits, const LexerPosition& position, JsonDocument& document)
      : tree_(limits, document), position_(position), document_(document) {}

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
    tree_.key(std::move(name), position_.text);
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

  template <class Value>
  bool add(JsonType type, Value&& value) {
    tree_.add(type, std::forward<Value>(value), position_.text);
    return true;
  }

  bool open(JsonType type) {
    tree_.open(type, position_.text);
    return true;
  }

  bool close() {
    tree_.close();
    return true;
  }

  [[noreturn]] void fail(const std::string& why) const { fail_at(document_, position_.text, why); }

  JsonTree tree_;
  const LexerPosition& position_;
  JsonDocument& document_;
};

}  // namespace

void parse_json(std::string_view text, const JsonLimits& limits, JsonDocument& document) {
  LexerPosition position;
  TreeBuilder builder(limits, position, document);
  nlohmann::json::sax_parse(CountingIterator(text.data(), &position),
                            CountingIterator(text.data() + text.size(), &position), &builder);
}

}  // namespace strata::formats::detail
