#include "json_splice.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "strata/base/error.h"

namespace strata::nvme_bench {
namespace {

constexpr std::string_view kSpace = " \t\r\n";
constexpr std::string_view kTripleQuotes = "'''";

/// The place of `mark` from `at` on, or the end.
std::size_t find_or_end(std::string_view text, std::string_view mark, std::size_t at) {
  return std::min(text.find(mark, at), text.size());
}

std::size_t line_end(std::string_view text, std::size_t at) {
  return std::min(text.find_first_of("\r\n", at), text.size());
}

/// The first place from `at` on that is neither white space nor in a comment.
std::size_t skip_space(std::string_view text, std::size_t at) {
  while (true) {
    at = text.find_first_not_of(kSpace, at);
    STRATA_CHECK(at != std::string_view::npos, "the text ends early");
    const std::string_view rest = text.substr(at);
    if (rest[0] == '#' || rest.starts_with("//")) {
      at = line_end(text, at);
    } else if (rest.starts_with("/*")) {
      at = std::min(find_or_end(text, "*/", at + 2) + 2, text.size());
    } else {
      return at;
    }
  }
}

/// The place behind the string that begins at `at`.
std::size_t skip_string(std::string_view text, std::size_t at) {
  if (text.substr(at).starts_with(kTripleQuotes)) {
    return find_or_end(text, kTripleQuotes, at + kTripleQuotes.size()) + kTripleQuotes.size();
  }
  const char mark = text.at(at);
  for (++at; text.at(at) != mark; ++at) {
    if (text[at] == '\\') ++at;
  }
  return at + 1;
}

bool is_quote(char c) { return c == '"' || c == '\''; }

/// The place behind the key that begins at `at`.
std::size_t skip_key(std::string_view text, std::size_t at) {
  if (is_quote(text.at(at))) return skip_string(text, at);
  return std::min(text.find_first_of(": \t\r\n", at), text.size());
}

std::size_t trimmed_end(std::string_view text, std::size_t begin, std::size_t end) {
  return begin + (text.substr(begin, end - begin).find_last_not_of(kSpace) + 1);
}

/// The place behind the value without quotes that begins at `at`: a number, true, false or null
/// before a delimiter, or text up to the end of its line.
std::size_t skip_plain(std::string_view text, std::size_t at) {
  const std::size_t line = line_end(text, at);
  for (std::size_t end = at; end <= line; ++end) {
    const std::string_view rest = text.substr(end, line - end);
    if (!rest.empty() && std::string_view(",]}#").find(rest[0]) == std::string_view::npos &&
        !rest.starts_with("//") && !rest.starts_with("/*")) {
      continue;
    }
    const std::size_t value_end = trimmed_end(text, at, end);
    if (nlohmann::json::accept(text.substr(at, value_end - at))) return value_end;
  }
  return trimmed_end(text, at, line);
}

/// The place behind the value that begins at `at`.
std::size_t skip_value(std::string_view text, std::size_t at) {
  const char first = text.at(at);
  if (is_quote(first)) return skip_string(text, at);
  if (first != '{' && first != '[') return skip_plain(text, at);
  at = skip_space(text, at + 1);
  while (text[at] != '}' && text[at] != ']') {
    if (first == '{') at = skip_space(text, skip_space(text, skip_key(text, at)) + 1);
    at = skip_space(text, skip_value(text, at));
    if (text[at] == ',') at = skip_space(text, at + 1);
  }
  return at + 1;
}

struct Range {
  std::size_t begin = 0;
  std::size_t end = 0;
};

/// The places of an object's members.
struct Layout {
  std::optional<Range> wanted;  ///< the value of the key that is looked for
  std::size_t first = 0;        ///< where the first member begins, or the brace that closes
  std::size_t last_end = 0;     ///< behind the last member's value; 0: there is no member
  bool last_is_text = false;    ///< the last value has no quotes and ends with its line
  std::size_t open = 0;         ///< the brace
};

Layout layout_of(std::string_view object, std::string_view key) {
  Layout layout;
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  layout.open = skip_space(object, object.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0);
  if (object[layout.open] != '{') {
    throw ConfigError("a config without its outermost braces is not written to; add { and }");
  }
  std::size_t at = layout.first = skip_space(object, layout.open + 1);
  while (object[at] != '}') {
    const std::size_t name_end = skip_key(object, at);
    const std::size_t quotes = is_quote(object[at]) ? 1 : 0;
    const std::string_view name = object.substr(at + quotes, name_end - at - 2 * quotes);
    const std::size_t colon = skip_space(object, name_end);
    const std::size_t begin = skip_space(object, colon + 1);
    layout.last_end = skip_value(object, begin);
    const std::string_view value = object.substr(begin, layout.last_end - begin);
    layout.last_is_text =
        !is_quote(value[0]) && value[0] != '{' && value[0] != '[' && !nlohmann::json::accept(value);
    if (name == key) layout.wanted = Range{begin, layout.last_end};
    at = skip_space(object, layout.last_end);
    if (object[at] == ',') at = skip_space(object, at + 1);
  }
  return layout;
}

/// The white space that a member's line begins with, line feed included; empty where the first
/// member stands in the line of the brace.
std::string line_begin_of(std::string_view object, const Layout& layout) {
  const std::string_view before = object.substr(layout.open + 1, layout.first - layout.open - 1);
  std::size_t line = before.rfind('\n');
  if (line == std::string_view::npos) return {};
  const std::string_view indentation = before.substr(line + 1);
  const bool has_return = line > 0 && before[line - 1] == '\r';
  return (has_return ? "\r\n" : "\n") +
         std::string(indentation.substr(
             0, std::min(indentation.find_first_not_of(kSpace), indentation.size())));
}

}  // namespace

std::string_view member_of(std::string_view object, std::string_view key) {
  const Layout layout = layout_of(object, key);
  if (!layout.wanted) return {};
  return object.substr(layout.wanted->begin, layout.wanted->end - layout.wanted->begin);
}

std::string indentation_of(std::string_view object) {
  const std::string begin = line_begin_of(object, layout_of(object, ""));
  return begin.substr(begin.rfind('\n') + 1);  // npos + 1 is 0
}

std::string with_member(std::string_view object, std::string_view key, std::string_view value) {
  const Layout layout = layout_of(object, key);
  std::string text(object);
  if (layout.wanted) {
    text.replace(layout.wanted->begin, layout.wanted->end - layout.wanted->begin, value);
    return text;
  }
  const std::string member = "\"" + std::string(key) + "\": " + std::string(value);
  if (layout.last_end == 0) {  // {} has no layout to keep
    const std::string_view inside = object.substr(layout.open + 1, layout.first - layout.open - 1);
    const bool is_blank = inside.find_first_not_of(kSpace) == std::string_view::npos;
    text.replace(layout.open + 1, is_blank ? inside.size() : 0, member);
    return text;
  }
  const std::string line = line_begin_of(object, layout);
  // A comma behind text without quotes would be part of it.
  if (layout.last_is_text) {
    text.insert(layout.last_end, (line.empty() ? "\n" : line) + member);
  } else {
    text.insert(layout.last_end, (line.empty() ? ", " : "," + line) + member);
  }
  return text;
}

}  // namespace strata::nvme_bench
