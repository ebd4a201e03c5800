#pragma once

#include <cstdint>
#include <string>

namespace strata::nvme_bench {

/// "4k", "1m", "1536": fio's way to write a block or a size, exact.
[[nodiscard]] std::string fio_bytes(std::uint64_t bytes);

/// A number with so many digits after the point.
[[nodiscard]] std::string fixed(double value, int digits);

/// Three significant digits at least, never an exponent: "0.0123", "1.23", "123", "12345".
[[nodiscard]] std::string compact(double value);

/// "50", "99.5", "99.99".
[[nodiscard]] std::string percent_text(double percent);

/// A latency: "812 ns", "84.2 us", "1.53 ms", "2.10 s".
[[nodiscard]] std::string latency_text(double nanoseconds);

/// "12 s", "1:05", "1:00:09".
[[nodiscard]] std::string duration_text(double seconds);

}  // namespace strata::nvme_bench
