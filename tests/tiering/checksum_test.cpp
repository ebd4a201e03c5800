#include "strata/tiering/checksum.h"

#include <gtest/gtest.h>

#include <vector>

namespace strata::tiering::checksum_test {
namespace {

TEST(ChunkChecksum, DependsOnEveryByteAndOnThePlace) {
  std::vector<std::byte> bytes(10'000, std::byte{3});
  const std::uint64_t checksum = chunk_checksum(4, 2, bytes);
  EXPECT_EQ(chunk_checksum(4, 2, bytes), checksum);
  EXPECT_NE(chunk_checksum(4, 3, bytes), checksum);
  EXPECT_NE(chunk_checksum(5, 2, bytes), checksum);
  EXPECT_NE(chunk_checksum(4, 2, std::span(bytes).first(9'999)), checksum);
  for (std::size_t i = 0; i < bytes.size(); i += 7) {
    bytes[i] ^= std::byte{1};
    ASSERT_NE(chunk_checksum(4, 2, bytes), checksum) << "byte " << i;
    bytes[i] ^= std::byte{1};
  }
}

}  // namespace
}  // namespace strata::tiering::checksum_test
