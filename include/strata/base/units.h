#pragma once

#include <cstdint>
#include <string>
#include <string_view>

/// \file
/// Byte quantities: literals, parsing and printing. Binary units only (1 KiB = 1024 bytes); rates
/// are printed in decimal GB/s, as disks and fio state them.

namespace strata {

inline namespace literals {
constexpr std::uint64_t operator""_KiB(unsigned long long n) { return n << 10; }
constexpr std::uint64_t operator""_MiB(unsigned long long n) { return n << 20; }
constexpr std::uint64_t operator""_GiB(unsigned long long n) { return n << 30; }
}  // namespace literals

/// Parses "4GiB", "512 MiB", "1.5GiB", "64K", "1000000" or "2GB" (decimal) into bytes.
/// Throws ConfigError for anything else, for negative values and for values beyond 2^63.
[[nodiscard]] std::uint64_t parse_bytes(std::string_view text);

/// Prints bytes with a binary unit and three significant digits: "1.50 GiB", "96.0 MiB", "17 B".
[[nodiscard]] std::string format_bytes(std::uint64_t bytes);

/// Rounds `value` up to a multiple of `alignment` (any positive integer).
[[nodiscard]] constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

/// `numerator / denominator`, rounded up.
[[nodiscard]] constexpr std::uint64_t ceil_div(std::uint64_t numerator, std::uint64_t denominator) {
  return (numerator + denominator - 1) / denominator;
}

}  // namespace strata
