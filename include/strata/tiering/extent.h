#pragma once

#include <cstdint>

namespace strata::tiering {

/// A named stretch of the store that holds one state of one shard. A small value; valid as long as
/// the store.
struct Extent {
  std::uint32_t id = 0;
  std::uint64_t bytes = 0;
};

/// A part of an extent, in bytes. `offset` is a multiple of the store's chunk; `bytes` is one too,
/// unless the range ends where the extent ends.
struct ByteRange {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

}  // namespace strata::tiering
