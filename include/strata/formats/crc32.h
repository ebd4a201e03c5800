#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace strata::formats {

/// The CRC-32 of zlib, gzip and PNG, of a sequence of bytes: Python's zlib.crc32 says the same. It
/// finds every burst of errors of up to 32 bits. The parts of a sequence can be summed up apart, by
/// several threads or processes, and joined in their order.
class Crc32 {
 public:
  Crc32() = default;
  /// The sum of `bytes` bytes that was worked out elsewhere.
  Crc32(std::uint32_t value, std::uint64_t bytes) : value_(value), bytes_(bytes) {}

  /// Appends these bytes to the sequence.
  void add(std::span<const std::byte> bytes);
  /// Appends the sequence of `next`.
  void append(const Crc32& next);

  [[nodiscard]] std::uint32_t value() const { return value_; }
  /// The length of the sequence.
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  bool operator==(const Crc32&) const = default;

 private:
  std::uint32_t value_ = 0;
  std::uint64_t bytes_ = 0;
};

/// Eight hexadecimal digits.
[[nodiscard]] std::string crc_text(std::uint32_t value);

}  // namespace strata::formats
