#include "json_splice.h"

#include <optional>
#include <string_view>

#include "strata/base/error.h"

namespace strata::bench {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

/// The first place from `at` on that is not white space.
std::size_t skip_space(std::string_view text, std::size_t at) {
  const std::size_t found = text.find_first_not_of(kSpace, at);
  STRATA_CHECK(found != std::string_view::npos, "the JSON text ends early");
  return found;
}

/// Behind the string that begins at `at`.
std::size_t skip_string(std::string_view text, std::size_t at) {
  for (++at; text.at(at) != '"'; ++at) {
    if (text[at] == '\\') ++at;
  }
  return at + 1;
}

/// Behind the value that begins at `at`.
std::size_t skip_value(std::string_view text, std::size_t at) {
  if (text.at(at) == '"') return skip_string(text, at);
  if (text[at] != '{' && text[at] != '[') {
    const std::size_t end = text.find_first_of(",]} \t\r\n", at);
    return end == std::string_view::npos ? text.size() : end;
  }
  int nested = 0;
  do {
    if (text.at(at) == '"') {
      at = skip_string(text, at);
      continue;
    }
    if (text[at] == '{' || text[at] == '[') ++nested;
    if (text[at] == '}' || text[at] == ']') --nested;
    ++at;
  } while (nested > 0);
  return at;
}

struct Range {
  std::size_t begin = 0;
  std::size_t end = 0;
};

/// Where an object's members are.
struct Layout {
  std::optional<Range> wanted;  ///< the value of the key that is looked for
  std::size_t first = 0;        ///< where the first member begins, or the brace that closes
  std::size_t last_end = 0;     ///< behind the last member's value; 0: there is no member
  std::size_t open = 0;         ///< the brace
};

Layout layout_of(std::string_view object, std::string_view key) {
  Layout layout;
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  layout.open = skip_space(object, object.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0);
  STRATA_CHECK(object[layout.open] == '{', "not a JSON object");
  std::size_t at = layout.first = skip_space(object, layout.open + 1);
  while (object[at] != '}') {
    const std::size_t name_end = skip_string(object, at);
    const std::string_view name = object.substr(at + 1, name_end - at - 2);
    const std::size_t colon = skip_space(object, name_end);
    const std::size_t begin = skip_space(object, colon + 1);
    layout.last_end = skip_value(object, begin);
    if (name == key) layout.wanted = Range{begin, layout.last_end};
    at = skip_space(object, layout.last_end);
    if (object[at] == ',') at = skip_space(object, at + 1);
  }
  return layout;
}

}  // namespace

std::string_view member_of(std::string_view object, std::string_view key) {
  const Layout layout = layout_of(object, key);
  if (!layout.wanted) return {};
  return object.substr(layout.wanted->begin, layout.wanted->end - layout.wanted->begin);
}

std::string indentation_of(std::string_view object) {
  const Layout layout = layout_of(object, "");
  const std::string_view before = object.substr(0, layout.first);
  const std::size_t line = before.rfind('\n');
  if (line == std::string_view::npos || line < layout.open) return "";
  return std::string(before.substr(line + 1));
}

std::string with_member(std::string_view object, std::string_view key, std::string_view value) {
  const Layout layout = layout_of(object, key);
  std::string text(object);
  if (layout.wanted) {
    text.replace(layout.wanted->begin, layout.wanted->end - layout.wanted->begin, value);
    return text;
  }
  std::string member = "\"" + std::string(key) + "\": " + std::string(value);
  if (layout.last_end == 0) {  // {} has no layout to keep
    text.replace(layout.open, layout.first - layout.open, "{" + member);
    return text;
  }
  const std::string_view before_first =
      object.substr(layout.open + 1, layout.first - layout.open - 1);
  const bool has_lines = before_first.find('\n') != std::string_view::npos;
  text.insert(layout.last_end, (has_lines ? "," + std::string(before_first) : ", ") + member);
  return text;
}

}  // namespace strata::bench
