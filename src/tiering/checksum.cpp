#include "strata/tiering/checksum.h"

#if defined(__x86_64__)
#include <xxh_x86dispatch.h>  // chooses SSE2, AVX2 or AVX-512 when it runs
#else
#include <xxhash.h>
#endif

namespace strata::tiering {

std::uint64_t chunk_checksum(std::uint32_t extent_id, std::uint64_t chunk,
                             std::span<const std::byte> bytes) noexcept {
  const std::uint64_t place = (std::uint64_t{extent_id} << 40) ^ chunk;
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), place);
}

}  // namespace strata::tiering
