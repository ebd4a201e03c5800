#include "formats/config_scalar.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <string>

#include "formats/quote.h"

namespace strata::formats {
namespace {

constexpr double kExactMax = 9007199254740992.0;  // 2^53

/// The text of a value in quotes; empty: it is another value.
std::string_view text_of(const JsonValue& value) {
  return value.is(JsonType::kString) ? std::string_view(value.as_string()) : std::string_view();
}

}  // namespace

std::string lower_case(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

std::optional<double> number_in(std::string_view text) {
  // from_chars also reads "inf" and "nan", which are no numbers here.
  if (text.find_first_not_of("0123456789+-.eE") != std::string_view::npos) return std::nullopt;
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, number);
  if (text.empty() || result.ptr != end || result.ec != std::errc()) return std::nullopt;
  return number;
}

std::optional<bool> boolean_in(std::string_view text) {
  constexpr std::array<std::string_view, 6> kTrue = {"true", "yes", "on", "t", "y", "1"};
  constexpr std::array<std::string_view, 6> kFalse = {"false", "no", "off", "f", "n", "0"};
  const std::string word = lower_case(text);
  if (std::find(kTrue.begin(), kTrue.end(), word) != kTrue.end()) return true;
  if (std::find(kFalse.begin(), kFalse.end(), word) != kFalse.end()) return false;
  return std::nullopt;
}

bool bool_of(const JsonValue& value) {
  if (const auto boolean = boolean_in(text_of(value))) return *boolean;
  if (value.is(JsonType::kInteger) || value.is(JsonType::kNumber)) {
    const double number = value.as_double();
    if (number == 0 || number == 1) return number == 1;
  }
  return value.as_bool();
}

double double_of(const JsonValue& value) {
  if (const auto number = number_in(text_of(value))) return *number;
  return value.as_double();
}

std::int64_t int64_of(const JsonValue& value) {
  const std::string_view text = text_of(value);
  const auto number = number_in(text);
  if (!number) return value.as_int64();
  std::int64_t whole = 0;
  const char* const end = text.data() + text.size();
  if (std::from_chars(text.data(), end, whole).ptr == end) return whole;
  if (std::trunc(*number) != *number) value.fail("expected a whole number, found " + quote(text));
  if (std::abs(*number) > kExactMax) value.fail("too large for a whole number: " + quote(text));
  return static_cast<std::int64_t>(*number);
}

bool says_infinity(const JsonValue& value) {
  // Hjson's text without quotes takes the comma too.
  const std::string word = lower_case(text_of(value));
  return word == "infinity" || word == "infinity," || word == "inf";
}

}  // namespace strata::formats
