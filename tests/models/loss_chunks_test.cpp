#include "models/loss_chunks.h"

#include <gtest/gtest.h>

#include "strata/base/units.h"

namespace strata::models::loss_chunks_test {
namespace {

constexpr std::int64_t kVocab = 50257, kWidth = 768;

TEST(LossChunks, AreOfAtLeast512RowsOr16MiBOfLogits) {
  EXPECT_EQ(loss_chunk_rows({4096, kVocab, kWidth, 4}), 512);
  EXPECT_EQ(loss_chunk_rows({4096, kVocab, kWidth, 2}), 512);
  EXPECT_EQ(loss_chunk_rows({1 << 20, 64, 64, 4}), 65536);
}

TEST(LossChunks, AreAllRowsWhereASumOfSeveralWouldTakeMoreThanTheirLogits) {
  EXPECT_EQ(loss_chunk_rows({1024, kVocab, kWidth, 2}), 1024);
  EXPECT_EQ(loss_chunk_rows({2 * kWidth, kVocab, kWidth, 2}), 2 * kWidth);
  EXPECT_EQ(loss_chunk_rows({2 * kWidth + 1, kVocab, kWidth, 2}), 512);
  EXPECT_EQ(loss_chunk_rows({1024, kVocab, kWidth, 4}), 512);  // fp32 needs none of its own
}

TEST(LossChunks, BoundTheBytesHoweverManyRowsThereAre) {
  const std::int64_t of_sum = kVocab * kWidth * 4;
  EXPECT_EQ(loss_bytes({128, kVocab, kWidth, 2}), 128 * kVocab * 2);
  EXPECT_EQ(loss_bytes({1 << 20, kVocab, kWidth, 2}), 512 * kVocab * 2 + of_sum);
  EXPECT_EQ(loss_bytes({1 << 20, kVocab, kWidth, 4}), 512 * kVocab * 4);
}

}  // namespace
}  // namespace strata::models::loss_chunks_test
