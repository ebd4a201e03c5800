#include "strata/zero3/tensor_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <torch/torch.h>

#include <algorithm>
#include <random>
#include <thread>
#include <vector>

#include "strata/base/error.h"
#include "strata/zero3/sharded.h"
#include "zero3/small_engine.h"

namespace strata {
namespace {

constexpr std::int64_t kMiB = std::int64_t{1} << 20;

torch::Tensor bytes(std::int64_t count) { return torch::empty({count}, torch::kUInt8); }

long minor_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

TEST(TensorPool, KeepsWhatAStepUsedForTheNextOne) {
  const TensorPool pool;
  const auto step = [] {
    torch::Tensor x = torch::ones({1024, 1024});
    for (int i = 0; i < 8; ++i) x = torch::mm(x, x).tanh();
  };
  for (int i = 0; i < 3; ++i) step();
  const TensorPoolUse before = pool.use();
  for (int i = 0; i < 5; ++i) step();
  EXPECT_EQ(pool.use().mapped, before.mapped);
  EXPECT_EQ(pool.use().live, 0u);
}

TEST(TensorPool, PaysNoPageFaultsInASteadyStep) {
  const TensorPool pool;
  const auto step = [] {
    for (int i = 0; i < 4; ++i) bytes(16 * kMiB).fill_(1);
  };
  step();
  const long before = minor_faults();
  for (int i = 0; i < 10; ++i) step();
  EXPECT_LT(minor_faults() - before, 1000) << "160 of 16 MiB would be 655,360 faults of 4 KiB";
}

TEST(TensorPool, GivesNoByteToTwoTensors) {
  const TensorPool pool;
  std::mt19937 random(1);
  std::vector<torch::Tensor> live;
  std::vector<std::uint8_t> marks;
  for (int i = 0; i < 800; ++i) {
    if (live.size() < 20 && random() % 2 == 0) {
      const auto count = static_cast<std::int64_t>(random() % kMiB);
      marks.push_back(static_cast<std::uint8_t>(random()));
      live.push_back(bytes(count).fill_(marks.back()));
    } else if (!live.empty()) {
      const std::size_t at = random() % live.size();
      ASSERT_TRUE((live[at] == marks[at]).all().item<bool>()) << "call " << i;
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(at));
      marks.erase(marks.begin() + static_cast<std::ptrdiff_t>(at));
    }
  }
  live.clear();
  EXPECT_EQ(pool.use().live, 0u);
}

TEST(TensorPool, JoinsNeighboursSoThatALargeTensorFitsWhereSmallOnesWere) {
  const TensorPool pool;
  std::vector<torch::Tensor> small;
  for (int i = 0; i < 7; ++i) small.push_back(bytes(kMiB));
  std::shuffle(small.begin(), small.end(), std::mt19937(1));
  small.clear();
  const std::uint64_t mapped = pool.use().mapped;
  const torch::Tensor large = bytes(7 * kMiB / 2);
  EXPECT_EQ(pool.use().mapped, mapped);
}

TEST(TensorPool, KeepsSmallTensorsOutOfTheRoomThatLargeOnesComeBackTo) {
  const TensorPool pool;
  bytes(100 * kMiB);
  const torch::Tensor small = bytes(5 * kMiB);
  bytes(100 * kMiB);
  EXPECT_LT(pool.use().peak, static_cast<std::uint64_t>(120 * kMiB));
}

TEST(TensorPool, GivesNoTensorTheRoomOfAMuchLargerOne) {
  const TensorPool pool;
  bytes(100 * kMiB);
  const torch::Tensor smaller = bytes(60 * kMiB);
  bytes(100 * kMiB);
  EXPECT_LT(pool.use().peak, static_cast<std::uint64_t>(170 * kMiB));
}

TEST(TensorPool, KeepsLargeTensorsOfSeveralSizesOnceTheyWereLiveTogether) {
  const TensorPool pool;
  const auto step = [] {
    const torch::Tensor first = bytes(40 * kMiB), second = bytes(70 * kMiB);
    bytes(9 * kMiB);
  };
  for (int i = 0; i < 3; ++i) step();
  const std::uint64_t mapped = pool.use().mapped;
  for (int i = 0; i < 5; ++i) step();
  EXPECT_EQ(pool.use().mapped, mapped);
}

TEST(TensorPool, MakesTensorsOfThePagesOfOthersWhereItHoldsAllThatWasEverLive) {
  const TensorPool pool;
  const auto step = [] {
    bytes(120 * kMiB).fill_(1);
    const torch::Tensor first = bytes(70 * kMiB).fill_(2);
    const torch::Tensor second = bytes(50 * kMiB).fill_(3);
    ASSERT_TRUE((first == 2).all().item<bool>());
    ASSERT_TRUE((second == 3).all().item<bool>());
  };
  step();  // the comparison takes bytes too
  step();
  const TensorPoolUse before = pool.use();
  const long faults = minor_faults();
  for (int i = 0; i < 10; ++i) step();
  EXPECT_EQ(pool.use().mapped, before.mapped);
  EXPECT_EQ(pool.use().peak, before.peak);
  EXPECT_LT(minor_faults() - faults, 200) << "240 MiB a step in huge pages would be 120 each";
}

TEST(TensorPool, MakesSharedSegmentsOfLargeTensorsAndTheOtherWayRound) {
  const TensorPool pool;
  const auto step = [] {
    bytes(64 * kMiB).fill_(1);
    std::vector<torch::Tensor> small;
    for (std::uint8_t i = 0; i < 60; ++i) small.push_back(bytes(kMiB - 4096).fill_(i));
    for (std::uint8_t i = 0; i < 60; ++i) ASSERT_TRUE((small[i] == i).all().item<bool>());
  };
  step();
  step();
  const TensorPoolUse before = pool.use();
  for (int i = 0; i < 5; ++i) step();
  EXPECT_EQ(pool.use().mapped, before.mapped);
  EXPECT_LT(pool.use().peak, static_cast<std::uint64_t>(80 * kMiB));
}

TEST(TensorPool, HoldsLittleMoreThanWhatIsLiveWhenSizesChange) {
  const TensorPool pool;
  for (std::int64_t size = 1; size < 400; size += 7) bytes(size * kMiB);
  EXPECT_LE(pool.use().peak, static_cast<std::uint64_t>(402 * kMiB));
}

TEST(TensorPool, GivesBackToTheSystemWhenAsked) {
  TensorPool pool;
  bytes(100 * kMiB);
  EXPECT_GT(pool.use().held, 0u);
  pool.trim();
  EXPECT_EQ(pool.use().held, 0u);
}

TEST(TensorPool, MayBeGoneBeforeItsTensors) {
  torch::Tensor survivor;
  torch::Tensor empty;
  {
    const TensorPool pool;
    survivor = bytes(4 * kMiB).fill_(7);
    empty = torch::empty({0});
  }
  EXPECT_TRUE((survivor == 7).all().item<bool>());
  survivor.reset();
  empty.resize_({kMiB});  // its storage remembers who made it
  empty.fill_(1);
  EXPECT_EQ(empty.sum().item<float>(), static_cast<float>(kMiB));
}

TEST(TensorPool, ServesThreads) {
  const TensorPool pool;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 200; ++i) bytes((i % 7 + 1) * kMiB).fill_(1);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(pool.use().live, 0u);
}

TEST(TensorPool, RefusesASecondOne) {
  const TensorPool pool;
  EXPECT_THROW(TensorPool(), UsageError);
}

TEST(TensorPool, ChangesNoBitOfTraining) {
  const auto train = [] {
    Engine engine(small::on_nvme(Precision::kBf16));
    std::vector<Sharded<torch::nn::Linear>> layers;
    for (std::uint64_t i = 0; i < 3; ++i) {
      layers.push_back(engine.shard(small::linear(i, 256, 256)));
    }
    for (std::uint64_t step = 0; step < 3; ++step) {
      torch::manual_seed(step);
      torch::Tensor x = torch::randn({512, 256});
      for (auto& layer : layers) x = layer(x);
      small::train_once(engine, x.to(torch::kFloat32).square().mean());
    }
    return small::values_of(layers[1]);
  };
  const std::vector<torch::Tensor> without = train();
  const TensorPool pool;
  const std::vector<torch::Tensor> with = train();
  for (std::size_t i = 0; i < with.size(); ++i) EXPECT_TRUE(torch::equal(with[i], without[i]));
}

}  // namespace
}  // namespace strata
