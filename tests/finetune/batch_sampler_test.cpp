#include "batch_sampler.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "dataset.h"
#include "strata/base/error.h"
#include "support/temp_directory.h"

namespace strata::tool::batch_sampler_test {
namespace {

using support::TempDirectory;

/// Bytes 0, 1, ..., count - 1 (modulo 256): a token says where it stands.
std::string counting_bytes(std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) text += static_cast<char>(i % 256);
  return text;
}

class BatchSamplerTest : public testing::Test {
 protected:
  TempDirectory directory_;
  formats::TokenData file_ = formats::TokenData::from_file(
      directory_.write("bytes", counting_bytes(200)), 256, formats::TokenEncoding::kBytes);
  TokenRange range_{.file = &file_, .begin = 100, .count = 50};
};

TEST_F(BatchSamplerTest, TargetsAreTheTokensThatFollow) {
  const Batch batch = BatchSampler::random(range_, 3, 8, 1).batch(5);
  EXPECT_EQ(batch.rows, 3);
  EXPECT_EQ(batch.length, 8);
  ASSERT_EQ(batch.tokens.size(), 24u);
  ASSERT_EQ(batch.targets.size(), 24u);
  for (std::size_t i = 0; i < batch.tokens.size(); ++i) {
    EXPECT_EQ(batch.targets[i], batch.tokens[i] + 1);
    if (i % 8 != 0) {
      EXPECT_EQ(batch.tokens[i], batch.tokens[i - 1] + 1);
    }
  }
}

TEST_F(BatchSamplerTest, NeverLeavesItsRangeAndReachesBothEnds) {
  const BatchSampler sampler = BatchSampler::random(range_, 4, 8, 1);
  std::set<std::int64_t> seen;
  for (std::uint64_t i = 0; i < 300; ++i) {
    const Batch batch = sampler.batch(i);
    seen.insert(batch.tokens.begin(), batch.tokens.end());
    seen.insert(batch.targets.begin(), batch.targets.end());
  }
  EXPECT_EQ(*seen.begin(), 100);
  EXPECT_EQ(*seen.rbegin(), 149);
}

TEST_F(BatchSamplerTest, ABatchDependsOnSeedAndIndexAlone) {
  const BatchSampler sampler = BatchSampler::random(range_, 4, 8, 7);
  (void)sampler.batch(3);
  EXPECT_EQ(sampler.batch(9).tokens, BatchSampler::random(range_, 4, 8, 7).batch(9).tokens);
  EXPECT_NE(sampler.batch(9).tokens, sampler.batch(10).tokens);
  EXPECT_NE(sampler.batch(9).tokens, BatchSampler::random(range_, 4, 8, 8).batch(9).tokens);
}

TEST_F(BatchSamplerTest, RandomPlacesAreUniform) {
  const BatchSampler sampler = BatchSampler::random(range_, 1, 40, 3);
  constexpr int kWindows = 10000;
  std::vector<int> counts(10);
  for (std::uint64_t i = 0; i < kWindows; ++i) ++counts[sampler.window_begin(i)];
  for (const int count : counts) EXPECT_NEAR(count, kWindows / 10, 150);  // 5 deviations
}

TEST_F(BatchSamplerTest, EvenWindowsSpreadFromTheFirstTokenToTheLast) {
  const BatchSampler sampler = BatchSampler::even(range_, 2, 10, 3);
  EXPECT_EQ(sampler.window_begin(0), 0u);
  EXPECT_EQ(sampler.window_begin(5), 39u);
  for (std::uint64_t i = 1; i < 6; ++i) {
    EXPECT_NEAR(static_cast<double>(sampler.window_begin(i) - sampler.window_begin(i - 1)), 7.8,
                1.0);
  }
  EXPECT_EQ(sampler.batch(2).targets.back(), 149);
}

TEST_F(BatchSamplerTest, ARangeOfOneWindowGivesThatWindow) {
  const TokenRange range{.file = &file_, .begin = 10, .count = 9};
  EXPECT_EQ(BatchSampler::random(range, 1, 8, 1).batch(77).tokens.front(), 10);
  EXPECT_EQ(BatchSampler::even(range, 2, 8, 4).batch(3).targets.back(), 18);
  EXPECT_EQ(BatchSampler::even(range, 1, 8, 1).batch(0).tokens.front(), 10);
}

TEST(DatasetTest, HoldsOutTheLastPart) {
  const Interruption interruption;
  const TempDirectory directory;
  FinetuneOptions options;
  options.data = directory.write("text", std::string(200, 'a'));
  options.val_fraction = 0.1;
  const Dataset data(options, 256, 8, interruption);
  EXPECT_EQ(data.train().count, 180u);
  ASSERT_TRUE(data.validation().has_value());
  EXPECT_EQ(data.validation()->begin, 180u);
  EXPECT_EQ(data.validation()->count, 20u);
  EXPECT_TRUE(data.is_text());
}

TEST(DatasetTest, RefusesPartsShorterThanASequence) {
  const Interruption interruption;
  const TempDirectory directory;
  FinetuneOptions options;
  options.data = directory.write("text", std::string(200, 'a'));
  EXPECT_NO_THROW(Dataset(options, 256, 199, interruption));
  EXPECT_THROW(Dataset(options, 256, 200, interruption), DataError);
  options.val_fraction = 0.05;
  EXPECT_NO_THROW(Dataset(options, 256, 9, interruption));
  EXPECT_THROW(Dataset(options, 256, 10, interruption), DataError);
}

TEST(DatasetTest, RefusesTextBesideTokenIds) {
  const Interruption interruption;
  const TempDirectory directory;
  FinetuneOptions options;
  const auto text = directory.write("text", std::string(200, 'a'));
  const auto ids = directory.write("ids.bin", std::string(200, '\1'));
  options.data = text;
  options.val_data = ids;
  EXPECT_THROW(Dataset(options, 300, 8, interruption), DataError);
  std::swap(options.data, options.val_data);
  EXPECT_THROW(Dataset(options, 300, 8, interruption), DataError);
  options.val_data = ids;
  EXPECT_NO_THROW(Dataset(options, 300, 8, interruption));
}

TEST(DatasetTest, FindsATokenBeyondTheVocabularyAtOnce) {
  const Interruption interruption;
  const TempDirectory directory;
  FinetuneOptions options;
  options.data = directory.write("text", std::string(199, 'a') + 'z');
  EXPECT_THROW(Dataset(options, 'z', 8, interruption), DataError);
  EXPECT_NO_THROW(Dataset(options, 'z' + 1, 8, interruption));
}

}  // namespace
}  // namespace strata::tool::batch_sampler_test
