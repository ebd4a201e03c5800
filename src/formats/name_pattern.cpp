#include "strata/formats/name_pattern.h"

#include <cstddef>

namespace strata::formats {

bool matches_pattern(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0;
  std::size_t star = std::string_view::npos;  // the last * met
  std::size_t star_text = 0;                  // first character that it does not stand for
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_text = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
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
