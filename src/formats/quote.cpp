#include "formats/quote.h"

namespace strata::formats {

std::string quote(std::string_view text) {
  constexpr std::size_t kLengthMax = 100;
  constexpr std::string_view kHexDigits = "0123456789abcdef";
  std::string result = "\"";
  for (const char c : text.substr(0, kLengthMax)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7f) {
      result += "\\x";
      result += kHexDigits[byte >> 4];
      result += kHexDigits[byte & 0xf];
    } else {
      if (c == '"' || c == '\\') result += '\\';
      result += c;
    }
  }
  result += text.size() > kLengthMax ? "...\"" : "\"";
  return result;
}

}  // namespace strata::formats
