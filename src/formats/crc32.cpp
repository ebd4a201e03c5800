#include "strata/formats/crc32.h"

#include <zlib.h>

#include <cstdio>

namespace strata::formats {

void Crc32::add(std::span<const std::byte> bytes) {
  const auto* const data = reinterpret_cast<const unsigned char*>(bytes.data());
  if (bytes.empty()) return;  // zlib takes a null pointer for a new beginning
  value_ = static_cast<std::uint32_t>(crc32_z(value_, data, bytes.size()));
  bytes_ += bytes.size();
}

void Crc32::append(const Crc32& next) {
  value_ = static_cast<std::uint32_t>(
      crc32_combine(value_, next.value_, static_cast<z_off_t>(next.bytes_)));
  bytes_ += next.bytes_;
}

std::string crc_text(std::uint32_t value) {
  char text[9];
  std::snprintf(text, sizeof text, "%08x", value);
  return text;
}

}  // namespace strata::formats
