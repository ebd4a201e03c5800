#include "readable_text.h"

#include <cstdio>

namespace strata::tool {
namespace {

bool is_continuation(std::int64_t token) { return token >= 0x80 && token <= 0xBF; }

// Length of the UTF-8 sequence that `tokens` begins with; 0: it begins with none, or with an
// overlong one, a surrogate, or one beyond U+10FFFF.
std::size_t sequence_length(std::span<const std::int64_t> tokens) {
  const std::int64_t lead = tokens[0];
  if (lead < 0x80) return lead == '\n' || lead == '\t' || (lead >= 0x20 && lead != 0x7F) ? 1 : 0;
  const std::size_t length = lead < 0xC2   ? 0
                             : lead < 0xE0 ? 2
                             : lead < 0xF0 ? 3
                             : lead < 0xF5 ? 4
                                           : 0;
  if (length == 0 || tokens.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if (!is_continuation(tokens[i])) return 0;
  }
  const std::int64_t second = tokens[1];
  const bool wrong = (lead == 0xC2 && second < 0xA0) ||  // C1 control characters
                     (lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
                     (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F);
  return wrong ? 0 : length;
}

}  // namespace

std::string readable_text(std::span<const std::int64_t> tokens) {
  std::string text;
  while (!tokens.empty()) {
    const std::size_t length = sequence_length(tokens);
    for (std::size_t i = 0; i < length; ++i) text += static_cast<char>(tokens[i]);
    if (length == 0) {
      char escaped[32];
      std::snprintf(escaped, sizeof escaped, tokens[0] < 256 ? "\\x%02llX" : "<%llu>",
                    static_cast<unsigned long long>(tokens[0]));
      text += escaped;
    }
    tokens = tokens.subspan(length == 0 ? 1 : length);
  }
  return text;
}

std::string id_list(std::span<const std::int64_t> tokens) {
  std::string text;
  for (const std::int64_t token : tokens) text += std::to_string(token) + ' ';
  if (!text.empty()) text.pop_back();
  return text;
}

}  // namespace strata::tool
