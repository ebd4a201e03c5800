#include "number_text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "strata/base/units.h"

namespace strata::nvme_bench {
std::string fio_bytes(std::uint64_t bytes) {
  if (bytes != 0 && bytes % 1_GiB == 0) return std::to_string(bytes / 1_GiB) + "g";
  if (bytes != 0 && bytes % 1_MiB == 0) return std::to_string(bytes / 1_MiB) + "m";
  if (bytes != 0 && bytes % 1_KiB == 0) return std::to_string(bytes / 1_KiB) + "k";
  return std::to_string(bytes);
}

std::string fixed(double value, int digits) { return format("%.*f", digits, value); }

std::string compact(double value) {
  if (value == 0) return "0";
  const int magnitude = static_cast<int>(std::floor(std::log10(std::abs(value)))) + 1;
  return fixed(value, std::clamp(3 - magnitude, 0, 9));
}

std::string percent_text(double percent) {
  std::string text = fixed(percent, 2);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

std::string latency_text(double nanoseconds) {
  if (nanoseconds < 999.5) return compact(std::round(nanoseconds)) + " ns";
  if (nanoseconds < 999.5e3) return compact(nanoseconds * 1e-3) + " us";
  if (nanoseconds < 999.5e6) return compact(nanoseconds * 1e-6) + " ms";
  return compact(nanoseconds * 1e-9) + " s";
}

std::string duration_text(double seconds) {
  const auto whole = static_cast<long long>(std::llround(std::max(0.0, seconds)));
  if (whole < 60) return format("%lld s", whole);
  if (whole < 3600) return format("%lld:%02lld", whole / 60, whole % 60);
  return format("%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
}

}  // namespace strata::nvme_bench
