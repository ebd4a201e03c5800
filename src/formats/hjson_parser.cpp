#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string>

#include "formats/json_document.h"
#include "formats/json_tree.h"
#include "formats/quote.h"
#include "formats/utf8.h"

namespace strata::formats::detail {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::string_view kPunctuation = "{}[],:";
constexpr std::string_view kQuotes = "'''";

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

/// Bytes of a JSON number at the beginning of `text`; 0: there is none. `whole` says whether it has
/// neither fraction nor exponent.
std::size_t number_length(std::string_view text, bool& whole) {
  std::size_t at = text.starts_with('-') ? 1 : 0;
  const auto digits = [&] {
    const std::size_t begin = at;
    while (at < text.size() && is_digit(text[at])) ++at;
    return at - begin;
  };
  whole = true;
  if (at < text.size() && text[at] == '0') {
    ++at;
  } else if (digits() == 0) {
    return 0;
  }
  if (at + 1 < text.size() && text[at] == '.' && is_digit(text[at + 1])) {
    ++at;
    digits();
    whole = false;
  }
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    const std::size_t before = at++;
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
    if (digits() == 0) return before;
    whole = false;
  }
  return at;
}

/// Reads one text, from its beginning to its end. Depth of recursion is that of the tree, which
/// bounds it.
class HjsonReader {
 public:
  HjsonReader(std::string_view text, const JsonLimits& limits, JsonDocument& document)
      : text_(text), tree_(limits, document), document_(document) {}

  void read() {
    refuse_other_bytes();
    if (text_.starts_with(kByteOrderMark)) skip(kByteOrderMark.size());
    skip_space();
    if (at_end()) fail("the file has no key; {} stands for all defaults");
    if (peek() == '[') {
      read_array();
    } else if (peek() == '{') {
      read_object(/*has_braces=*/true);
    } else {
      read_object(/*has_braces=*/false);
    }
    skip_space();
    if (!at_end()) fail("there is more text behind the end of the config: " + rest_of_line());
  }

 private:
  // ---- values --------------------------------------------------------------------------------

  void read_value() {
    if (at_end()) fail("the file ends where a value was expected" + hint());
    if (peek() == '{') return read_object(/*has_braces=*/true);
    if (peek() == '[') return read_array();
    if (text_.substr(at_).starts_with(kQuotes)) {
      const TextPosition begin = here();
      return tree_.add(JsonType::kString, multiline_string(), begin);
    }
    if (peek() == '"' || peek() == '\'') {
      const TextPosition begin = here();
      return tree_.add(JsonType::kString, quoted_string(), begin);
    }
    read_plain();
  }

  void read_object(bool has_braces) {
    const TextPosition begin = here();
    tree_.open(JsonType::kObject, begin);
    if (has_braces) skip(1);
    skip_space();
    while (!(has_braces && peek() == '}')) {
      if (at_end()) {
        if (!has_braces) break;
        fail("the file ends inside the object that begins in line " + std::to_string(begin.line) +
             hint());
      }
      const TextPosition place = here();
      tree_.key(key_name(), place);
      skip_space();
      if (peek() != ':') fail("expected a colon behind the key");
      skip(1);
      skip_space();
      read_value();
      skip_comma();
    }
    if (has_braces) skip(1);
    tree_.close();
  }

  void read_array() {
    const TextPosition begin = here();
    tree_.open(JsonType::kArray, begin);
    skip(1);
    skip_space();
    while (peek() != ']') {
      if (at_end()) {
        fail("the file ends inside the array that begins in line " + std::to_string(begin.line) +
             hint());
      }
      read_value();
      skip_comma();
    }
    skip(1);
    tree_.close();
  }

  /// A value without quotes: a number, true, false or null if nothing else stands before a
  /// delimiter, else text up to the end of the line.
  void read_plain() {
    const TextPosition begin = here();
    if (kPunctuation.find(peek()) != std::string_view::npos) {
      fail("expected a value, found " + quote(text_.substr(at_, 1)));
    }
    const std::size_t end = std::min(text_.find_first_of("\r\n", at_), text_.size());
    const std::string_view line = text_.substr(at_, end - at_);
    for (std::size_t length = 0; length <= line.size(); ++length) {
      if (length < line.size() && !ends_plain(line.substr(length))) continue;
      if (add_constant(trimmed(line.substr(0, length)), begin)) return skip(length);
    }
    tree_.add(JsonType::kString, std::string(trimmed(line)), begin);
    skip(line.size());
    plain_line_ = begin.line;
    plain_text_ = trimmed(line);
  }

  static bool ends_plain(std::string_view rest) {
    return rest[0] == ',' || rest[0] == '}' || rest[0] == ']' || rest[0] == '#' ||
           rest.starts_with("//") || rest.starts_with("/*");
  }

  bool add_constant(std::string_view word, TextPosition place) {
    if (word == "null") return tree_.add(JsonType::kNull, std::monostate{}, place), true;
    if (word == "true") return tree_.add(JsonType::kBoolean, true, place), true;
    if (word == "false") return tree_.add(JsonType::kBoolean, false, place), true;
    bool whole = false;
    if (word.empty() || number_length(word, whole) != word.size()) return false;
    add_number(word, whole, place);
    return true;
  }

  void add_number(std::string_view digits, bool whole, TextPosition place) {
    const char* const end = digits.data() + digits.size();
    std::int64_t integer = 0;
    std::uint64_t large = 0;
    if (whole && std::from_chars(digits.data(), end, integer).ec == std::errc()) {
      return tree_.add(JsonType::kInteger, integer, place);
    }
    if (whole && std::from_chars(digits.data(), end, large).ec == std::errc()) {
      return tree_.add(JsonType::kInteger, large, place);
    }
    const double number = std::strtod(std::string(digits).c_str(), nullptr);
    if (!std::isfinite(number)) fail("the number " + quote(digits) + " is too large");
    tree_.add(JsonType::kNumber, number, place);
  }

  // ---- text ----------------------------------------------------------------------------------

  std::string key_name() {
    if (peek() == '"' || peek() == '\'') return quoted_string();
    const std::size_t begin = at_;
    while (!at_end() && !is_space(peek()) && kPunctuation.find(peek()) == std::string_view::npos) {
      skip(1);
    }
    const std::string_view name = text_.substr(begin, at_ - begin);
    if (!name.empty()) return std::string(name);
    if (at_end()) fail("the file ends where a key was expected" + hint());
    fail("expected a key, found " + quote(text_.substr(at_, 1)) + hint());
  }

  std::string quoted_string() {
    const TextPosition begin = here();
    const char mark = peek();
    skip(1);
    std::string value;
    while (!at_end() && peek() != mark) {
      if (peek() == '\n' || peek() == '\r') break;
      if (peek() == '\\') {
        value += escaped();
      } else {
        value += peek();
        skip(1);
      }
    }
    if (at_end() || peek() != mark) {
      fail_at(document_, begin, "the text that begins here is not closed in its line");
    }
    skip(1);
    return value;
  }

  std::string escaped() {
    constexpr std::string_view kLetters = "\"'\\/bfnrt";
    constexpr std::string_view kMeanings = "\"'\\/\b\f\n\r\t";
    skip(1);
    const char letter = peek();
    if (letter == 'u') return escaped_code_point();
    const std::size_t which = at_end() ? std::string_view::npos : kLetters.find(letter);
    if (which == std::string_view::npos)
      fail("a backslash stands before no letter that JSON knows");
    skip(1);
    return std::string(1, kMeanings[which]);
  }

  std::string escaped_code_point() {
    std::uint32_t code = hex_digits();
    if (code >= 0xD800 && code < 0xDC00 && text_.substr(at_).starts_with("\\u")) {
      skip(1);
      const std::uint32_t low = hex_digits();
      if (low < 0xDC00 || low > 0xDFFF) fail("half a surrogate pair");
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    if (code >= 0xD800 && code <= 0xDFFF) fail("half a surrogate pair");
    return utf8_of(code);
  }

  /// The four digits behind the u that comes next.
  std::uint32_t hex_digits() {
    skip(1);
    const std::string_view digits = text_.substr(at_, 4);
    std::uint32_t code = 0;
    const auto end = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16).ptr;
    if (digits.size() < 4 || end != digits.data() + 4) fail("expected four hexadecimal digits");
    skip(4);
    return code;
  }

  /// Text between triple quotes, without the indentation of the first ones and the last line feed.
  std::string multiline_string() {
    const TextPosition begin = here();
    const auto indentation = begin.column - 1;
    skip(kQuotes.size());
    while (!at_end() && peek() != '\n' && is_space(peek())) skip(1);
    if (peek() == '\n') skip_indented_line(indentation);
    std::string value;
    while (!text_.substr(at_).starts_with(kQuotes)) {
      if (at_end()) fail_at(document_, begin, "the text that begins here is not closed");
      if (peek() == '\n') {
        value += '\n';
        skip_indented_line(indentation);
      } else {
        if (peek() != '\r') value += peek();
        skip(1);
      }
    }
    skip(kQuotes.size());
    if (value.ends_with('\n')) value.pop_back();
    return value;
  }

  void skip_indented_line(std::uint32_t indentation) {
    skip(1);
    for (; indentation > 0 && !at_end() && peek() != '\n' && is_space(peek()); --indentation) {
      skip(1);
    }
  }

  // ---- between values ------------------------------------------------------------------------

  void skip_comma() {
    skip_space();
    if (peek() != ',') return;
    skip(1);
    skip_space();
  }

  /// Skips white space and comments.
  void skip_space() {
    while (!at_end()) {
      const std::string_view rest = text_.substr(at_);
      if (is_space(rest[0])) {
        skip(1);
      } else if (rest[0] == '#' || rest.starts_with("//")) {
        skip(std::min(rest.find_first_of("\r\n"), rest.size()));
      } else if (rest.starts_with("/*")) {
        const std::size_t end = rest.find("*/", 2);
        if (end == std::string_view::npos) fail("the comment that begins here is not closed");
        skip(end + 2);
      } else {
        return;
      }
    }
  }

  // ---- places --------------------------------------------------------------------------------

  [[nodiscard]] bool at_end() const { return at_ == text_.size(); }
  /// The next character; NUL, which no text has, at the end.
  [[nodiscard]] char peek() const { return at_end() ? '\0' : text_[at_]; }

  void skip(std::size_t count) {
    for (; count > 0; --count) {
      if (text_[at_++] != '\n') continue;
      ++line_;
      line_begin_ = at_;
    }
  }

  [[nodiscard]] TextPosition here() const {
    return {line_, static_cast<std::uint32_t>(at_ - line_begin_ + 1)};
  }

  [[noreturn]] void fail(const std::string& why) const { fail_at(document_, here(), why); }

  [[nodiscard]] std::string rest_of_line() const {
    return quote(text_.substr(at_, std::min(text_.find_first_of("\r\n", at_), text_.size()) - at_));
  }

  /// A hint that a value without quotes may have taken the brace that closes an object.
  [[nodiscard]] std::string hint() const {
    if (plain_line_ == 0 || plain_text_.find_first_of(",}]") == std::string_view::npos) return "";
    return "; the value in line " + std::to_string(plain_line_) +
           " has no quotes and so takes its whole line: " + quote(plain_text_);
  }

  void refuse_other_bytes() {
    for (; !at_end(); skip(1)) {
      const char c = peek();
      if (static_cast<unsigned char>(c) < 0x20 && !is_space(c)) {
        fail("a control character stands in the text: " + quote(text_.substr(at_, 1)));
      }
      if (utf8_length(text_.substr(at_)) == 0) fail("the text is not UTF-8");
      skip(utf8_length(text_.substr(at_)) - 1);
    }
    at_ = line_begin_ = 0;
    line_ = 1;
  }

  std::string_view text_;
  JsonTree tree_;
  JsonDocument& document_;
  std::size_t at_ = 0;
  std::size_t line_begin_ = 0;
  std::uint32_t line_ = 1;
  std::uint32_t plain_line_ = 0;  ///< line of the last value without quotes; 0: none
  std::string_view plain_text_;
};

}  // namespace

void parse_hjson(std::string_view text, const JsonLimits& limits, JsonDocument& document) {
  HjsonReader(text, limits, document).read();
}

}  // namespace strata::formats::detail
