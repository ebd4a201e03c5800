#include "strata/base/units.h"

#include <array>
#include <charconv>
#include <cstdio>
#include <optional>

#include "strata/base/error.h"

namespace strata {
namespace {

constexpr std::uint64_t kBytesMax = 1ull << 63;
constexpr std::size_t kFractionDigitsMax = 18;  // 10^18 is the largest power of ten in 64 bits

ConfigError not_a_size(std::string_view text, std::string_view why) {
  return ConfigError("\"" + std::string(text) + "\" is not a number of bytes: " + std::string(why) +
                     "; write for example 4GiB, 1.5GiB, 512MiB, 64K or 1000000");
}

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

/// "k", "kib" -> 1024; "kb" -> 1000; "" and "b" -> 1; and so on up to tera.
std::optional<std::uint64_t> bytes_of_unit(std::string_view unit) {
  const std::string name = lower_case(unit);
  if (name.empty() || name == "b") return 1;
  const auto power = std::string_view("kmgt").find(name.front());
  if (power == std::string_view::npos) return std::nullopt;
  const std::string_view suffix = std::string_view(name).substr(1);
  const bool decimal = suffix == "b";
  if (!decimal && !suffix.empty() && suffix != "ib") return std::nullopt;
  std::uint64_t bytes = 1;
  for (std::size_t i = 0; i <= power; ++i) bytes *= decimal ? 1000 : 1024;
  return bytes;
}

/// A decimal number as it was written: whole + fraction / scale.
struct Decimal {
  std::uint64_t whole = 0;
  std::uint64_t fraction = 0;
  std::uint64_t scale = 1;
};

/// Takes a number off the front of `rest`.
Decimal take_decimal(std::string_view text, std::string_view& rest) {
  Decimal value;
  const char* const end = rest.data() + rest.size();
  auto [after, error] = std::from_chars(rest.data(), end, value.whole);
  if (error == std::errc::result_out_of_range) throw not_a_size(text, "it is beyond 2^63");
  if (error != std::errc()) throw not_a_size(text, "it does not begin with a digit");
  if (after != end && *after == '.') {
    const char* const digits = after + 1;
    const auto parsed = std::from_chars(digits, end, value.fraction);
    const auto count = static_cast<std::size_t>(parsed.ptr - digits);
    if (count == 0) throw not_a_size(text, "no digit follows the point");
    if (count > kFractionDigitsMax) throw not_a_size(text, "it has too many decimals");
    for (std::size_t i = 0; i < count; ++i) value.scale *= 10;
    after = parsed.ptr;
  }
  rest.remove_prefix(static_cast<std::size_t>(after - rest.data()));
  return value;
}

}  // namespace

std::uint64_t parse_bytes(std::string_view text) {
  std::string_view rest = text;
  const Decimal value = take_decimal(text, rest);
  const auto unit_begin = rest.find_first_not_of(' ');
  if (!rest.empty() && unit_begin == std::string_view::npos) {
    throw not_a_size(text, "it ends in a space");
  }
  if (!rest.empty()) rest.remove_prefix(unit_begin);
  const auto unit = bytes_of_unit(rest);
  if (!unit) throw not_a_size(text, "the unit \"" + std::string(rest) + "\" is unknown");

  // 128 bits hold every product here exactly; the fraction of a byte is dropped.
  using Wide = unsigned __int128;
  const Wide bytes = Wide(value.whole) * *unit + Wide(value.fraction) * *unit / value.scale;
  if (bytes > kBytesMax) throw not_a_size(text, "it is beyond 2^63");
  return static_cast<std::uint64_t>(bytes);
}

std::string format_bytes(std::uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  constexpr std::array<const char*, 6> kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  // 1023.5 would print as 1024: it belongs to the next unit.
  while (value >= 1023.5 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  // In the same way 9.995 prints as 10.0 and 99.95 as 100.
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.*f %s", decimals, value, kUnits[unit]);
  return text.data();
}

}  // namespace strata
