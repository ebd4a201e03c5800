#include "access_pattern.h"

#include <gtest/gtest.h>

#include <deque>
#include <set>
#include <vector>

#include "strata/base/units.h"

namespace strata::nvme_bench::access_pattern_test {
namespace {

using aio::OpKind;

AccessPattern pattern(Workload workload, std::uint64_t blocks, std::uint32_t depth = 4) {
  return {workload, blocks, depth, 1_MiB, 7};
}

/// The next `count` accesses with `depth` of them in flight.
std::vector<Access> accesses_of(AccessPattern& pattern, std::size_t count, std::size_t depth) {
  std::vector<Access> all;
  std::deque<std::uint64_t> in_flight;
  while (all.size() < count) {
    all.push_back(pattern.next().value());
    in_flight.push_back(all.back().block);
    if (in_flight.size() < depth) continue;
    pattern.finished(in_flight.front());
    in_flight.pop_front();
  }
  return all;
}

TEST(AccessPattern, WalksThroughThePartAndBeginsAgain) {
  AccessPattern reads = pattern(Workload::kRead, 3);
  for (const std::uint64_t block : {0, 1, 2, 0, 1}) {
    const Access access = reads.next().value();
    EXPECT_EQ(access.block, block);
    EXPECT_EQ(access.kind, OpKind::kRead);
    reads.finished(block);
  }
}

TEST(AccessPattern, ReadsAndWritesHalfAndHalf) {
  for (const Workload workload : {Workload::kReadWrite, Workload::kRandRw}) {
    AccessPattern both = pattern(workload, 100);
    std::size_t reads = 0;
    for (const Access& access : accesses_of(both, 1000, 4)) reads += access.kind == OpKind::kRead;
    EXPECT_EQ(reads, 500u);
  }
}

TEST(AccessPattern, ChoosesAllBlocksAboutEquallyOften) {
  AccessPattern random = pattern(Workload::kRandRead, 16);
  std::vector<int> counts(16);
  for (int i = 0; i < 16'000; ++i) ++counts[random.next().value().block];
  for (const int count : counts) {
    EXPECT_GT(count, 800);
    EXPECT_LT(count, 1200);
  }
}

TEST(AccessPattern, NeverNamesABlockInFlightWhenItIsWritten) {
  for (const Workload workload : {Workload::kWrite, Workload::kReadWrite, Workload::kRandWrite,
                                  Workload::kRandRw, Workload::kTrainStep}) {
    AccessPattern writes = pattern(workload, 12);
    std::set<std::uint64_t> in_flight;
    for (int i = 0; i < 5000; ++i) {
      const auto access = writes.next();
      if (!access) {
        EXPECT_EQ(in_flight.size(), 12u);
      } else {
        EXPECT_TRUE(in_flight.insert(access->block).second) << name_of(workload);
      }
      if (in_flight.size() == 12u || i % 3 == 0) {
        writes.finished(*in_flight.begin());
        in_flight.erase(in_flight.begin());
      }
    }
  }
}

TEST(AccessPattern, MovesOfATrainingStepAre14ReadsAnd12Writes) {
  // A slice has 12 units of max(depth, 8 MiB) blocks; 2400 blocks hold 25 of 8 blocks a unit.
  AccessPattern step = pattern(Workload::kTrainStep, 2400);
  constexpr std::size_t kUnit = 8;
  for (int slice = 0; slice < 30; ++slice) {
    const std::vector<Access> all = accesses_of(step, 26 * kUnit, 1);
    std::vector<int> reads(2400), writes(2400);
    for (std::size_t i = 0; i < all.size(); ++i) {
      ++(all[i].kind == OpKind::kRead ? reads : writes)[all[i].block];
      if (i < 4 * kUnit) {
        EXPECT_EQ(all[i].kind, OpKind::kRead) << "forward and backward write nothing";
      }
    }
    const std::size_t begin = slice % 25 * 12 * kUnit;
    for (std::size_t block = 0; block < 12 * kUnit; ++block) {
      EXPECT_EQ(reads[begin + block], block < 2 * kUnit ? 2 : 1) << block;
      EXPECT_EQ(writes[begin + block], 1) << block;
    }
  }
}

TEST(AccessPattern, MixesTheOptimizersReadsAndWritesEvenly) {
  AccessPattern step = pattern(Workload::kTrainStep, 96);
  (void)accesses_of(step, 32, 1);
  for (int group = 0; group < 8; ++group) {
    std::size_t reads = 0;
    for (const Access& access : accesses_of(step, 22, 1)) reads += access.kind == OpKind::kRead;
    EXPECT_EQ(reads, 10u);
  }
}

}  // namespace
}  // namespace strata::nvme_bench::access_pattern_test
