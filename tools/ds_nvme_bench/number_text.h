#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <string>

namespace strata::nvme_bench {

/// What printf makes of `pattern` and the values, at most 255 characters.
template <class... Values>
[[nodiscard]] std::string format(const char* pattern, Values... values) {
  std::array<char, 256> text{};
  std::snprintf(text.data(), text.size(), pattern, values...);
  return text.data();
}

/// A block or a size as fio writes it, exact: "4k", "1m", "1536".
[[nodiscard]] std::string fio_bytes(std::uint64_t bytes);

/// A number with `digits` digits after the point.
[[nodiscard]] std::string fixed(double value, int digits);

/// A number with at least three digits, never an exponent: "0.0123", "1.23", "123", "12345".
[[nodiscard]] std::string compact(double value);

/// A percentage: "50", "99.5", "99.99".
[[nodiscard]] std::string percent_text(double percent);

/// A latency: "812 ns", "84.2 us", "1.53 ms", "2.10 s".
[[nodiscard]] std::string latency_text(double nanoseconds);

/// A duration: "12 s", "1:05", "1:00:09".
[[nodiscard]] std::string duration_text(double seconds);

}  // namespace strata::nvme_bench
