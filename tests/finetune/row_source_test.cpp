#include "row_source.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "batch_sampler.h"
#include "dataset.h"
#include "row_order.h"
#include "show_batch.h"
#include "strata/base/error.h"
#include "support/temp_directory.h"

namespace strata::tool::row_source_test {
namespace {

constexpr std::uint64_t kKey = 17;

class Rows : public ::testing::Test {
 protected:
  /// Document i has these many tokens, 100 i + their place; the first `prompt` bear no loss.
  std::shared_ptr<const DocumentStore> store(const std::vector<std::uint32_t>& lengths,
                                             std::uint32_t prompt = 1) {
    DocumentWriter writer(path_);
    for (std::uint32_t i = 0; i < lengths.size(); ++i) {
      std::vector<MarkedToken> tokens;
      for (std::uint32_t at = 0; at < lengths[i]; ++at) {
        tokens.push_back({.id = 100 * i + at, .bears = at >= prompt});
      }
      writer.add(tokens);
    }
    writer.finish(kKey);
    return DocumentStore::open(path_, kKey);
  }

  support::TempDirectory directory_;
  std::filesystem::path path_ = directory_.path() / "store";
};

TEST_F(Rows, AStoreGivesBackItsDocumentsAndIsNoneWhereItIsDamagedOrAnothers) {
  const auto whole = store({3, 1, 70'000});
  ASSERT_NE(whole, nullptr);
  EXPECT_EQ(whole->size(), 3u);
  EXPECT_EQ(whole->largest_id(), 70'199u);
  std::vector<MarkedToken> tokens(2);
  whole->read(2, 69'998, tokens);
  EXPECT_EQ(tokens[1].id, 70'199u);
  EXPECT_EQ(DocumentStore::open(path_, kKey + 1), nullptr);
  std::fstream(path_, std::ios::in | std::ios::out | std::ios::binary).seekp(1000).put('\x7f');
  EXPECT_EQ(DocumentStore::open(path_, kKey), nullptr);
  std::filesystem::resize_file(path_, 500);
  EXPECT_EQ(DocumentStore::open(path_, kKey), nullptr);
}

TEST_F(Rows, PackedRowsHoldEveryTokenOnceWithPositionsThatRestart) {
  const std::vector<std::uint32_t> lengths = {5, 9, 3, 2, 7, 4};
  const DocumentRows rows(store(lengths), 0, lengths.size(), {.length = 8});
  std::multiset<std::int64_t> targets;
  std::uint64_t bearing = 0;
  for (std::uint64_t i = 0; i < rows.count(); ++i) {
    const Row row = rows.row(i);
    ASSERT_EQ(row.tokens.size(), 8u);
    ASSERT_EQ(row.positions.size(), 8u);
    for (std::size_t at = 0; at < row.tokens.size(); ++at) {
      if (row.targets[at] == kNoLoss) continue;
      targets.insert(row.targets[at]);
      EXPECT_EQ(row.targets[at], row.tokens[at] + 1);
      EXPECT_EQ(row.positions[at], row.tokens[at] % 100);
    }
    bearing += rows.bearing(i);
  }
  EXPECT_EQ(targets.size(), 4u + 8 + 2 + 1 + 6 + 3);
  EXPECT_EQ(targets.size(), std::set<std::int64_t>(targets.begin(), targets.end()).size());
  EXPECT_EQ(bearing, targets.size());
  EXPECT_EQ(rows.counts().bearing, bearing);
  EXPECT_EQ(rows.count(), 3u);  // 8; 6 + 2; 4 + 3 + 1
}

TEST_F(Rows, WhatIsLongerIsCutIntoPartsOrLosesItsEndAndIsCounted) {
  const auto documents = store({20, 3, 2}, 2);
  const DocumentRows cut(documents, 0, 3, {.length = 6, .packs = false, .cuts_in_parts = true});
  EXPECT_EQ(cut.count(), 5u);  // 6 + 6 + 6 + 1; 2
  EXPECT_EQ(cut.row(1).tokens.front(), 6);
  EXPECT_EQ(cut.row(3).targets, std::vector<std::int64_t>{19});
  EXPECT_EQ(cut.counts().lost_tokens, 0u);
  const DocumentRows lost(documents, 0, 3, {.length = 6, .packs = false});
  EXPECT_EQ(lost.count(), 2u);
  EXPECT_EQ(lost.counts().longer, 1u);
  EXPECT_EQ(lost.counts().lost_tokens, 13u);
  EXPECT_EQ(lost.counts().silent, 1u);
  EXPECT_EQ(lost.row(0).targets.front(), kNoLoss);
}

TEST_F(Rows, ABatchIsFilledUpWithoutLossAndBehindTheLastEpochNothingBearsAny) {
  const auto rows = std::make_shared<DocumentRows>(store({5, 3, 4}), 0, 3,
                                                   RowLayout{.length = 8, .packs = false});
  const BatchSampler sampler =
      BatchSampler::of_rows(rows, 2, 8, RowOrder::epochs(rows->count(), 3, 1));
  const Batch first = sampler.batch(0), second = sampler.batch(1);
  std::multiset<std::int64_t> seen;
  for (const Batch& batch : {first, second}) {
    EXPECT_EQ(batch.tokens.size(), static_cast<std::size_t>(2 * batch.length));
    for (const std::int64_t target : batch.targets) {
      if (target != kNoLoss) seen.insert(target);
    }
  }
  EXPECT_EQ(seen, (std::multiset<std::int64_t>{1, 2, 3, 4, 101, 102, 201, 202, 203}));
  EXPECT_EQ(sampler.bearing(0, 2), seen.size());
  EXPECT_EQ(sampler.bearing(2, 1), 0u);
}

TEST_F(Rows, TheSameGlobalBatchesComeHoweverTheyAreShared) {
  const auto rows = std::make_shared<DocumentRows>(store({5, 3, 4, 9, 2, 6, 7}), 0, 7,
                                                   RowLayout{.length = 8, .packs = true});
  const RowOrder order = RowOrder::epochs(rows->count(), 3);
  std::vector<std::int64_t> one, many;
  for (std::uint64_t i = 0; i < 4; ++i) {
    const auto& tokens = BatchSampler::of_rows(rows, 4, 8, order).batch(i).tokens;
    one.insert(one.end(), tokens.begin(), tokens.end());
  }
  for (std::uint64_t i = 0; i < 16; ++i) {
    const auto& tokens = BatchSampler::of_rows(rows, 1, 8, order).batch(i).tokens;
    many.insert(many.end(), tokens.begin(), tokens.end());
  }
  EXPECT_EQ(one, many);
}

TEST(RowOrders, EveryRowComesOnceInEveryEpochInAnotherOrder) {
  const RowOrder order = RowOrder::epochs(50, 1);
  std::set<std::vector<std::uint64_t>> orders;
  for (std::uint64_t epoch = 0; epoch < 4; ++epoch) {
    std::vector<std::uint64_t> rows;
    for (std::uint64_t at = 0; at < 50; ++at) rows.push_back(*order.row(50 * epoch + at));
    orders.insert(rows);
    std::ranges::sort(rows);
    for (std::uint64_t at = 0; at < 50; ++at) EXPECT_EQ(rows[at], at);
  }
  EXPECT_EQ(orders.size(), 4u);
  EXPECT_EQ(order.row(77), RowOrder::epochs(50, 1).row(77));
  EXPECT_FALSE(RowOrder::epochs(50, 1, 2).row(100).has_value());
}

TEST(RowOrders, AllOrdersOfAnEpochAreAlike) {
  constexpr int kTimes = 24'000;
  std::map<std::vector<std::uint64_t>, int> counts;
  for (int i = 0; i < kTimes; ++i) {
    const RowOrder order = RowOrder::epochs(4, static_cast<std::uint64_t>(i / 100));
    const auto first = static_cast<std::uint64_t>(i % 100) * 4;
    ++counts[{*order.row(first), *order.row(first + 1), *order.row(first + 2),
              *order.row(first + 3)}];
  }
  ASSERT_EQ(counts.size(), 24u);
  double chi_square = 0.0;
  for (const auto& [rows, count] : counts) {
    const double off = count - kTimes / 24.0;
    chi_square += off * off / (kTimes / 24.0);
  }
  EXPECT_LT(chi_square, 49.7);  // 23 degrees of freedom: 1 in 1000
}

TEST(RowOrders, AnEvaluationTakesEachRowOnceWhereTheyAreFewAndElseSpreads) {
  const RowOrder few = RowOrder::even(3, 4), many = RowOrder::even(100, 4);
  EXPECT_EQ(few.row(2), 2u);
  EXPECT_FALSE(few.row(3).has_value());
  EXPECT_EQ(many.row(0), 0u);
  EXPECT_EQ(many.row(3), 75u);
}

TEST_F(Rows, AreShownWithWhatBearsLossBetweenMarks) {
  const auto rows = std::make_shared<DocumentRows>(store({3, 4}, 2), 0, 2, RowLayout{.length = 7});
  std::ostringstream out;
  show_batch(
      BatchSampler::of_rows(rows, 1, 7, RowOrder::epochs(1, 0)), 1,
      [](const auto& runs) {
        std::vector<std::string> texts;
        for (const auto& run : runs) {
          texts.emplace_back();
          for (const std::int64_t token : run) texts.back() += std::to_string(token) + " ";
        }
        return texts;
      },
      out);
  EXPECT_EQ(out.str(),
            "What bears loss stands between « and ».\n\nSequence 1: 7 tokens, 3 with loss\n"
            "100 101 «102 103 »\n----\n0 1 «2 »\n---- padding: 2 tokens\n");
}

TEST_F(Rows, ExamplesOfAModelWithoutATokenizerAreBytes) {
  const Interruption interruption;
  FinetuneOptions options;
  options.data =
      directory_.write("x.txt",
                       "{\"prompt\": \"ab\", \"completion\": \"cd\"}\n{\"prompt\": \"\", "
                       "\"completion\": \"efghijkl\"}\n");
  options.pack = false;
  const Dataset data(options, 256, 6, interruption);
  ASSERT_TRUE(data.has_documents());
  EXPECT_TRUE(data.is_text());
  EXPECT_EQ(data.train_rows()->row(0).targets, (std::vector<std::int64_t>{kNoLoss, 'c', 'd'}));
  EXPECT_EQ(data.train_rows()->counts().longer, 1u);
  options.loss_on = LossOn::kEverything;
  EXPECT_EQ(Dataset(options, 256, 6, interruption).train_rows()->row(0).targets.front(), 'b');
  EXPECT_THROW(Dataset(options, 'h', 6, interruption), DataError);
  options.data = directory_.write("c.jsonl",
                                  "{\"messages\": [{\"role\": \"assistant\", "
                                  "\"content\": \"a\"}]}\n");
  EXPECT_THROW(Dataset(options, 256, 6, interruption), ConfigError);
  options.data = directory_.write("t.txt", std::string(100, 'a'));
  EXPECT_THROW(Dataset(options, 256, 6, interruption), ConfigError);  // --pack, --loss-on
  for (const auto& entry : std::filesystem::directory_iterator(directory_.path())) {
    EXPECT_FALSE(entry.path().filename().string().starts_with("."));
  }
}

}  // namespace
}  // namespace strata::tool::row_source_test
