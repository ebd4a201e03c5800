#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace strata::formats {

/// Numbers as they lie in a file.
template <class Number>
[[nodiscard]] std::string bytes_of(const std::vector<Number>& numbers) {
  std::string bytes(numbers.size() * sizeof(Number), '\0');
  std::memcpy(bytes.data(), numbers.data(), bytes.size());
  return bytes;
}

/// What llm.c's token files begin with.
[[nodiscard]] inline std::string llmc_header(std::int32_t magic, std::int32_t version,
                                             std::int32_t tokens) {
  std::vector<std::int32_t> header(256, 0);
  header[0] = magic;
  header[1] = version;
  header[2] = tokens;
  return bytes_of(header);
}

}  // namespace strata::formats
