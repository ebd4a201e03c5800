#include "strata/formats/name_pattern.h"

#include <cstddef>

namespace strata::formats {

namespace {

/// The length of what `pattern` begins with, "[0-3]" among it, where that stands for `character`;
/// 0: it does not. A * is none of it.
std::size_t length_of_match(std::string_view pattern, char character) {
  if (pattern.empty() || pattern.front() == '*') return 0;
  const std::size_t end = pattern.front() == '[' ? pattern.find(']') : std::string_view::npos;
  if (end == std::string_view::npos) {
    return pattern.front() == '?' || pattern.front() == character ? 1 : 0;
  }
  for (std::size_t i = 1; i < end;) {
    const bool is_range = i + 2 < end && pattern[i + 1] == '-';
    const char last = is_range ? pattern[i + 2] : pattern[i];
    if (pattern[i] <= character && character <= last) return end + 1;
    i += is_range ? 3 : 1;
  }
  return 0;
}

}  // namespace

bool matches_pattern(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0;
  std::size_t star = std::string_view::npos;  // the last * met
  std::size_t star_text = 0;                  // first character that it does not stand for
  while (t < text.size()) {
    const std::size_t length = length_of_match(pattern.substr(p), text[t]);
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_text = t;
    } else if (length > 0) {
      p += length;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;  // let the * stand for one character more
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool matches_any_pattern(std::span<const std::string> patterns, std::string_view full_name) {
  for (std::string_view rest = full_name;; rest.remove_prefix(rest.find('.') + 1)) {
    for (const std::string& pattern : patterns) {
      if (matches_pattern(pattern, rest)) return true;
    }
    if (rest.find('.') == std::string_view::npos) return false;
  }
}

}  // namespace strata::formats
