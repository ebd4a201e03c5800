#include "block_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "random_bytes.h"

namespace strata::nvme_bench::block_check_test {
namespace {

using testing::HasSubstr;
using Bytes = std::vector<std::byte>;

constexpr std::size_t kBytes = 4096;

BlockPlace place(std::uint64_t block) {
  return {.block = block, .offset = block * kBytes, .fill_seed = 11};
}

Bytes initial(std::uint64_t block) {
  Bytes bytes(kBytes);
  fill_random(bytes, 11, block * kBytes);
  return bytes;
}

Bytes written(BlockCheck& check, std::uint64_t block) {
  Bytes bytes(kBytes);
  check.prepare_write(place(block), bytes);
  return bytes;
}

TEST(BlockCheck, AcceptsTheFillAndThenTheLastWrite) {
  BlockCheck check(4);
  EXPECT_EQ(check.check(place(1), initial(1)), "");
  EXPECT_EQ(check.check(place(1), written(check, 1)), "");
  EXPECT_EQ(check.check(place(1), written(check, 1)), "");
}

TEST(BlockCheck, FindsEveryFlippedByteOfTheFill) {
  const BlockCheck check(4);
  for (std::size_t at = 0; at < kBytes; at += 13) {
    Bytes bytes = initial(2);
    bytes[at] ^= std::byte{0x10};
    EXPECT_THAT(check.check(place(2), bytes), HasSubstr("byte " + std::to_string(at) + " of"));
  }
}

TEST(BlockCheck, FindsEveryFlippedByteOfAWrittenBlock) {
  BlockCheck check(4);
  const Bytes good = written(check, 2);
  for (std::size_t at = 0; at < kBytes; at += 13) {
    Bytes bytes = good;
    bytes[at] ^= std::byte{0x01};
    EXPECT_THAT(check.check(place(2), bytes), HasSubstr("expected")) << at;
  }
}

TEST(BlockCheck, FindsALostWrite) {
  BlockCheck check(4);
  const Bytes first = written(check, 0);
  (void)written(check, 0);
  EXPECT_THAT(check.check(place(0), first), HasSubstr("expected generation 2, found 1"));
  EXPECT_THAT(check.check(place(0), initial(0)), HasSubstr("expected generation 2"));
}

TEST(BlockCheck, FindsAMisdirectedWrite) {
  BlockCheck check(4);
  (void)written(check, 0);
  EXPECT_THAT(check.check(place(0), written(check, 3)), HasSubstr("that of offset 12288"));
  EXPECT_THAT(check.check(place(1), written(check, 3)), HasSubstr("misdirected"));
}

TEST(BlockCheck, WritesNoBlockTwiceAlike) {
  BlockCheck check(4);
  const Bytes first = written(check, 0);
  const Bytes second = written(check, 0);
  const Bytes other = written(check, 1);
  for (std::size_t at = 64; at < kBytes; at += 64) {
    EXPECT_FALSE(std::equal(first.begin() + at - 64, first.begin() + at, second.begin() + at - 64));
    EXPECT_FALSE(std::equal(first.begin() + at - 64, first.begin() + at, other.begin() + at - 64));
  }
}

}  // namespace
}  // namespace strata::nvme_bench::block_check_test
