#include <gtest/gtest.h>
#include <torch/torch.h>

#include <random>
#include <string>
#include <vector>

#include "strata/zero3/sharded.h"
#include "zero3/small_engine.h"

namespace strata::unit_mover_test {
namespace {

using small::kWidth;

std::uint64_t moved(const Engine& engine, Hop hop) { return engine.counters()[hop].bytes; }

TEST(UnitMover, FetchesStraightIntoTheDeviceTierWhereThatIsHostMemory) {
  formats::DsConfig config = small::on_nvme();
  config.strata.overlap_step = false;  // such steps bring new weights themselves
  Engine engine(config);
  std::vector<Sharded<torch::nn::Linear>> layers;
  for (std::uint64_t i = 0; i < 4; ++i) layers.push_back(engine.shard(small::linear(i)));
  for (int step = 0; step < 3; ++step) {
    torch::Tensor x = small::input();
    for (auto& layer : layers) x = layer(x);
    small::train_once(engine, x.square().mean());
  }
  EXPECT_GT(moved(engine, Hop::kFetch), 0u);
  EXPECT_EQ(moved(engine, Hop::kUpload), 0u) << "nothing is copied";
}

TEST(UnitMover, ReadsNoExpertsThatAreNotUsed) {
  constexpr int kLayers = 4;
  constexpr int kExperts = 8;
  Engine engine(small::on_nvme());
  std::vector<Sharded<torch::nn::Linear>> experts;
  for (std::uint64_t i = 0; i < kLayers * kExperts; ++i) {
    experts.push_back(engine.shard(small::linear(i)));
  }
  std::mt19937 random(1);
  const auto step = [&] {
    torch::Tensor x = small::input();
    for (int layer = 0; layer < kLayers; ++layer) {
      x = experts[static_cast<std::size_t>(layer * kExperts) + random() % kExperts](x);
    }
    small::train_once(engine, x.square().mean());
  };
  for (int i = 0; i < 20; ++i) step();
  const std::uint64_t before = moved(engine, Hop::kFetch);
  constexpr int kSteps = 40;
  for (int i = 0; i < kSteps; ++i) step();
  const std::uint64_t read = (moved(engine, Hop::kFetch) - before) / kSteps;

  // Every expert that is used brings its weight for forward, which stays for backward, and for the
  // step, with two moments. All 32 would be eight times as much.
  const std::uint64_t bytes = engine.plan_input().units.front().trainable_count * sizeof(float);
  EXPECT_LE(read, kLayers * bytes * 4 * 5 / 4);
}

TEST(UnitMover, KeepsUnitsThatAStepDoesNotChangeOnTheDevice) {
  Engine engine(small::on_nvme());
  torch::nn::Linear module = small::linear(0, small::kWidth, 64 * small::kWidth);
  for (torch::Tensor& parameter : module->parameters()) parameter.set_requires_grad(false);
  Sharded frozen = engine.shard(module, {.name = "frozen"});
  Sharded trained = engine.shard(small::linear(1), {.name = "trained"});
  const auto loss = [&] {
    return trained(frozen(small::input()).slice(1, 0, small::kWidth)).square().mean();
  };
  ASSERT_TRUE(small::train_once(engine, loss()).updated);
  const std::uint64_t before = moved(engine, Hop::kFetch);
  ASSERT_TRUE(small::train_once(engine, loss()).updated);
  EXPECT_LT(moved(engine, Hop::kFetch) - before, frozen->weight.nbytes())
      << "trained's states alone";
}

TEST(UnitMover, LearnsTheOrderOfPassesOverUnitsOfWhichNoneIsTrained) {
  constexpr std::uint64_t kUnits = 6, kRoom = 4;
  const auto frozen = [](std::uint64_t seed) {
    torch::nn::Linear layer = small::linear(seed);
    for (torch::Tensor& parameter : layer->parameters()) parameter.set_requires_grad(false);
    return layer;
  };
  formats::DsConfig config = small::on_nvme();
  {
    Engine alone(config);
    const auto unit = alone.shard(frozen(0));
    config.strata.device_budget_bytes = kRoom * zero3::smallest_budgets(alone.plan_input()).device;
  }
  const auto bytes_of_the_last_of_ten = [&](bool ends_passes) {
    Engine engine(config);
    std::vector<Sharded<torch::nn::Linear>> units;
    for (std::uint64_t i = 0; i < kUnits; ++i) units.push_back(engine.shard(frozen(i)));
    const torch::NoGradGuard no_grad;
    std::uint64_t before = 0;
    for (int pass = 0; pass < 10; ++pass) {
      before = moved(engine, Hop::kFetch);
      torch::Tensor x = small::input();
      for (auto& unit : units) x = unit(x);
      if (!ends_passes) continue;
      engine.skip_micro_batch();
      EXPECT_FALSE(engine.step().updated);
    }
    return moved(engine, Hop::kFetch) - before;
  };
  const std::uint64_t all = bytes_of_the_last_of_ten(/*ends_passes=*/false);
  EXPECT_EQ(all % kUnits, 0u) << "the unit that was used longest ago gives way: always the next";
  // Of a known order those stay that are used soonest: of six units in four places three are read.
  EXPECT_LE(bytes_of_the_last_of_ten(/*ends_passes=*/true), all / kUnits * 4);
}

TEST(UnitMover, TimesEveryHopWithoutCountingOneTwice) {
  Engine engine(small::on_nvme());
  Sharded<torch::nn::Linear> outer = engine.shard(small::linear(0));
  Sharded<torch::nn::Linear> inner = engine.shard(small::linear(1));
  const Time start = kSystemClock.now();
  for (int step = 0; step < 3; ++step) {
    const torch::Tensor y =
        outer.run([&](const torch::Tensor& x) { return inner(outer->forward(x)); },
                  Recompute::kAlways, small::input());
    small::train_once(engine, y.square().mean());
  }
  const auto whole = std::chrono::nanoseconds(kSystemClock.now() - start).count();
  const CounterReading hops = engine.counters();
  for (const Hop hop :
       {Hop::kFetch, Hop::kGather, Hop::kCompute, Hop::kDrain, Hop::kStep, Hop::kFlush}) {
    EXPECT_GT(hops[hop].busy_ns, 0u) << name_of(hop);
  }
  // A unit inside of another one computes once, and the engine's work for it is not computing.
  EXPECT_LE(hops[Hop::kCompute].busy_ns + hops[Hop::kGather].busy_ns + hops[Hop::kDrain].busy_ns +
                hops[Hop::kFetch].wait_ns,
            static_cast<std::uint64_t>(whole));
}

TEST(UnitMover, GoesOnAfterAUnitThatHadNoRoom) {
  formats::DsConfig config = small::on_nvme();
  config.strata.device_budget_bytes = small::room_for_one_linear(config);
  Engine engine(config);
  Sharded<torch::nn::Linear> outer = engine.shard(small::linear(0));
  Sharded<torch::nn::Linear> inner = engine.shard(small::linear(1));
  const torch::Tensor x = small::input();
  const torch::Tensor before = inner(x);
  const std::string message = small::message_of<BudgetError>(
      [&] { outer.with_unsharded([&] { inner.with_unsharded([] {}); }); });
  EXPECT_NE(message.find("units that run inside one another"), std::string::npos) << message;
  EXPECT_TRUE(torch::equal(inner(x), before));
}

}  // namespace
}  // namespace strata::unit_mover_test
