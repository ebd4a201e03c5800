#include "aio/blocks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <stdexcept>
#include <vector>

namespace strata::aio::blocks_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<BlockIndex> blocks_in(const Blocks& blocks, BlockState state) {
  std::vector<BlockIndex> found;
  blocks.for_each(state, [&](BlockIndex index) { found.push_back(index); });
  return found;
}

TEST(BlockStates, HaveARowEachInTheOrderOfTheirNames) {
  for (std::size_t row = 0; row < kBlockStates; ++row) {
    EXPECT_EQ(static_cast<std::size_t>(kBlockMeanings[row].state), row);
    EXPECT_FALSE(kBlockMeanings[row].name.empty());
    EXPECT_FALSE(kBlockMeanings[row].meaning.empty());
  }
}

TEST(BlockStates, EachCanBeReachedFromFreeAndLeadsBackThere) {
  for (std::size_t row = 0; row < kBlockStates; ++row) {
    std::vector<bool> reached(kBlockStates, false), returns(kBlockStates, false);
    reached[0] = true;
    returns[row] = true;
    for (std::size_t round = 0; round < kBlockStates; ++round) {
      for (std::size_t from = 0; from < kBlockStates; ++from) {
        for (std::size_t to = 0; to < kBlockStates; ++to) {
          if (!may_follow(BlockState(from), BlockState(to))) continue;
          if (reached[from]) reached[to] = true;
          if (returns[from]) returns[to] = true;
        }
      }
    }
    EXPECT_TRUE(reached[row]) << kBlockMeanings[row].name;
    EXPECT_TRUE(returns[0]) << kBlockMeanings[row].name;
  }
}

TEST(Blocks, AreInTheOrderInWhichTheyCameToTheirState) {
  Blocks blocks(4);
  for (const BlockIndex index : {2u, 0u, 3u}) blocks.move(index, BlockState::kStaged);
  EXPECT_THAT(blocks_in(blocks, BlockState::kStaged), ElementsAre(2, 0, 3));
  blocks.move(0, BlockState::kIssued);
  blocks.move(2, BlockState::kIssued);
  blocks.move(0, BlockState::kStaged);
  EXPECT_THAT(blocks_in(blocks, BlockState::kStaged), ElementsAre(3, 0));
  EXPECT_THAT(blocks_in(blocks, BlockState::kIssued), ElementsAre(2));
  EXPECT_THAT(blocks_in(blocks, BlockState::kFree), ElementsAre(1));
}

TEST(Blocks, RefuseAWayThatTheTableDoesNotKnow) {
  Blocks blocks(1);
  try {
    blocks.move(0, BlockState::kIssued);
    FAIL() << "a block was issued that nobody had staged";
  } catch (const std::logic_error& error) {
    EXPECT_THAT(error.what(), HasSubstr("free to issued"));
  }
  EXPECT_EQ(blocks.state_of(0), BlockState::kFree);
}

TEST(Blocks, HaveNoOwnerOnceTheyAreFreeOrLost) {
  Blocks blocks(1);
  detail::OperationState operation;
  for (const BlockState end : {BlockState::kFree, BlockState::kLost}) {
    blocks.move(0, BlockState::kStaged);
    blocks[0].owner = &operation;
    blocks.move(0, BlockState::kIssued);
    EXPECT_EQ(blocks[0].owner, &operation);
    blocks.move(0, end);
    EXPECT_EQ(blocks[0].owner, nullptr);
    EXPECT_FALSE(blocks.has_owner(0));
  }
}

TEST(Blocks, StayInOneListEachThroughAnyWalk) {
  constexpr std::size_t kCount = 7;
  Blocks blocks(kCount);
  std::mt19937 random(3);
  for (int step = 0; step < 10'000; ++step) {
    const auto index = static_cast<BlockIndex>(random() % kCount);
    const auto to = BlockState(random() % kBlockStates);
    if (!may_follow(blocks.state_of(index), to)) continue;
    blocks.move(index, to);
    std::size_t total = 0;
    for (const BlockMeaning& meaning : kBlockMeanings) {
      const std::vector<BlockIndex> found = blocks_in(blocks, meaning.state);
      for (const BlockIndex each : found) EXPECT_EQ(blocks.state_of(each), meaning.state);
      EXPECT_EQ(found.size(), blocks.count(meaning.state));
      EXPECT_EQ(found.empty(), blocks.empty(meaning.state));
      total += found.size();
    }
    ASSERT_EQ(total, kCount);
    ASSERT_EQ(blocks_in(blocks, to).back(), index);
  }
}

}  // namespace
}  // namespace strata::aio::blocks_test
