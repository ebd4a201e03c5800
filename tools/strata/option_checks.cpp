#include "option_checks.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>
#include <system_error>

namespace strata::tool {
namespace {

template <class Number>
bool reads_as(const std::string& text, Number& value) {
  const char* const end = text.data() + text.size();
  const auto [after, code] = std::from_chars(text.data(), end, value);
  return code == std::errc() && after == end;
}

}  // namespace

CLI::Validator whole_number() {
  const auto check = [](const std::string& text) -> std::string {
    std::int64_t value = 0;
    if (reads_as(text, value) && value > 0) return {};
    return "\"" + text + "\" is not a whole number from 1 to 2^63 - 1";
  };
  return CLI::Validator(check, "");
}

CLI::Validator seed_number() {
  const auto check = [](const std::string& text) -> std::string {
    std::uint64_t value = 0;
    if (reads_as(text, value)) return {};
    return "\"" + text + "\" is not a whole number from 0 to 2^64 - 1";
  };
  return CLI::Validator(check, "");
}

CLI::Validator path_name() {
  const auto check = [](const std::string& text) -> std::string {
    return text.empty() ? "the name is empty" : "";
  };
  return CLI::Validator(check, "");
}

CLI::Validator positive_number() {
  const auto check = [](const std::string& text) -> std::string {
    double value = 0;
    if (CLI::detail::lexical_cast(text, value) && value > 0) return {};
    return "\"" + text + "\" is not a number above 0";
  };
  return CLI::Validator(check, "");
}

CLI::Validator number_from_0() {
  const auto check = [](const std::string& text) -> std::string {
    double value = 0;
    if (CLI::detail::lexical_cast(text, value) && value >= 0 && std::isfinite(value)) return {};
    return "\"" + text + "\" is not a number of 0 or more";
  };
  return CLI::Validator(check, "");
}

CLI::Validator fraction() {
  const auto check = [](const std::string& text) -> std::string {
    double value = 0;
    if (CLI::detail::lexical_cast(text, value) && value >= 0 && value <= 0.9) return {};
    return "\"" + text + "\" is not a fraction from 0 to 0.9";
  };
  return CLI::Validator(check, "");
}

CLI::Validator probability() {
  const auto check = [](const std::string& text) -> std::string {
    double value = 0;
    if (CLI::detail::lexical_cast(text, value) && value > 0 && value <= 1) return {};
    return "\"" + text + "\" is not a number above 0 and at most 1";
  };
  return CLI::Validator(check, "");
}

}  // namespace strata::tool
