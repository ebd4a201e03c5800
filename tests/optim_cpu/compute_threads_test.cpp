#include "strata/optim_cpu/compute_threads.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <stdexcept>
#include <vector>

namespace strata::optim_cpu::compute_threads_test {
namespace {

TEST(ComputeThreads, WorkOnEveryElementOnce) {
  for (const int count : {0, 1, 2, 3}) {
    ComputeThreads threads(count);
    for (const std::uint64_t elements : {0u, 1u, 99u, 100u, 101u, 12'345u}) {
      std::vector<std::atomic<int>> touched(elements);
      threads.for_each_block(elements, 100, [&](Block block) {
        for (std::uint64_t i = block.begin; i < block.end; ++i) ++touched[i];
      });
      EXPECT_TRUE(std::ranges::all_of(touched, [](const auto& times) { return times == 1; }));
    }
  }
}

TEST(ComputeThreads, CutBlocksAtTheSamePlacesWhateverTheThreads) {
  for (const int count : {1, 2, 3}) {
    ComputeThreads threads(count);
    std::mutex mutex;
    std::vector<std::uint64_t> begins;
    threads.for_each_block(1050, 100, [&](Block block) {
      const std::lock_guard lock(mutex);
      begins.push_back(block.begin);
      EXPECT_EQ(block.end, std::min<std::uint64_t>(block.begin + 100, 1050));
    });
    std::ranges::sort(begins);
    ASSERT_EQ(begins.size(), 11u);
    for (std::size_t i = 0; i < begins.size(); ++i) EXPECT_EQ(begins[i], 100 * i);
  }
}

TEST(ComputeThreads, AreAsManyAsAskedForAndAvailable) {
  const int available = ComputeThreads().threads();
  EXPECT_GE(available, 1);
  for (const int count : {1, 2, 1000}) {
    const ComputeThreads threads(count);
    EXPECT_EQ(threads.threads(), std::min(count, available));
    EXPECT_GE(threads.nodes(), 1);
  }
}

TEST(ComputeThreads, HandOnWhatABlockThrows) {
  ComputeThreads threads(2);
  EXPECT_THROW(threads.for_each_block(1000, 10,
                                      [](Block block) {
                                        if (block.begin == 500) throw std::runtime_error("no");
                                      }),
               std::runtime_error);
  std::atomic<std::uint64_t> elements = 0;  // and go on working
  threads.for_each_block(1000, 10, [&](Block block) { elements += block.end - block.begin; });
  EXPECT_EQ(elements, 1000u);
}

}  // namespace
}  // namespace strata::optim_cpu::compute_threads_test
