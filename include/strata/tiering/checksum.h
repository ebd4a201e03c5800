#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace strata::tiering {

/// 64 bits that tell these bytes, at this place, from any others. The place is mixed in so that the
/// checksum of one chunk never vouches for another.
[[nodiscard]] std::uint64_t chunk_checksum(std::uint32_t extent_id, std::uint64_t chunk,
                                           std::span<const std::byte> bytes) noexcept;

}  // namespace strata::tiering
