#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <vector>

#include "zero3/small_engine.h"

/// \file
/// Steps of the optimizer that go on beside what the program does next: strata.overlap_step.

namespace strata::overlapped_step_test {
namespace {

using formats::OffloadDevice;
using small::expect_same;
using torch::Tensor;

constexpr std::int64_t kUnits = 5;
constexpr int kSteps = 6;

formats::DsConfig overlapping(formats::DsConfig config, bool overlap) {
  config.strata.overlap_step = overlap;
  config.gradient_clipping = 0.5;
  return config;
}

/// A chain of layers, each a unit, in a device tier with room for two of them.
struct Chain {
  explicit Chain(formats::DsConfig config) : engine(bounded(std::move(config))) {
    for (std::int64_t i = 0; i < kUnits; ++i) {
      layers.push_back(engine.shard(small::linear(static_cast<std::uint64_t>(i))));
    }
  }

  static formats::DsConfig bounded(formats::DsConfig config) {
    const std::uint64_t one = small::room_for_one_linear(config);
    config.strata.device_budget_bytes = one + one / 2;
    return config;
  }

  Tensor forward(std::uint64_t seed) {
    Tensor value = small::input(seed);
    for (auto& layer : layers) value = torch::tanh(layer(value));
    return value;
  }

  StepReport train(std::uint64_t seed) {
    return small::train_once(engine, forward(seed).square().mean());
  }

  std::vector<Tensor> masters() { return small::masters_of(engine); }

  Engine engine;
  std::deque<Sharded<torch::nn::Linear>> layers;
};

/// What a program may do between two steps, by number; returns what it saw.
Tensor do_something(Chain& chain, unsigned what, int step) {
  switch (what % 8) {
    case 0: {
      const torch::NoGradGuard no_grad;
      return chain.forward(7);
    }
    case 1: return small::weight_of(chain.layers[kUnits - 1]);
    case 2: return chain.masters().front();
    case 3: chain.engine.set_lr(1e-3 * (step + 1)); return {};
    case 4: chain.engine.zero_grad(); return {};
    case 5:
      chain.engine.edit_masters([](const std::string&, Tensor& value) { value.mul_(0.5); });
      return {};
    case 6: {
      const torch::NoGradGuard no_grad;  // out of the usual order
      return chain.layers[3](small::input(5));
    }
    default: chain.engine.finish_step(); return {};
  }
}

TEST(OverlappedStep, IsThePlansChoiceWhereStatesPassThroughWindows) {
  Chain on(overlapping(small::on_nvme(), true)), off(overlapping(small::on_nvme(), false));
  Chain in_host(overlapping(small::config_for(OffloadDevice::kCpu), true));
  for (Chain* const chain : {&on, &off, &in_host}) chain->engine.prepare();
  EXPECT_TRUE(on.engine.plan().overlaps_step);
  EXPECT_FALSE(off.engine.plan().overlaps_step);
  EXPECT_FALSE(in_host.engine.plan().overlaps_step);
}

TEST(OverlappedStep, TakesNoMoreMemory) {
  Chain on(overlapping(small::on_nvme(), true)), off(overlapping(small::on_nvme(), false));
  for (Chain* const chain : {&on, &off}) {
    chain->train(1);
    chain->train(2);
  }
  for (const tiering::Tier tier : {tiering::Tier::kDevice, tiering::Tier::kHost}) {
    EXPECT_EQ(on.engine.use(tier).peak, off.engine.use(tier).peak);
  }
}

TEST(OverlappedStep, HasTheBitsOfTheSerialOneWhateverTheProgramDoesNext) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    for (unsigned seed = 1; seed <= 6; ++seed) {
      Chain overlapped(overlapping(small::on_nvme(precision), true));
      Chain serial(overlapping(small::on_nvme(precision), false));
      std::mt19937 random(seed);
      for (int step = 0; step < kSteps; ++step) {
        const StepReport left = overlapped.train(seed + static_cast<unsigned>(step));
        const StepReport right = serial.train(seed + static_cast<unsigned>(step));
        EXPECT_EQ(left.grad_norm, right.grad_norm) << "seed " << seed << " step " << step;
        const unsigned what = random();
        const Tensor seen = do_something(overlapped, what, step);
        const Tensor expected = do_something(serial, what, step);
        if (seen.defined()) {
          EXPECT_TRUE(torch::equal(seen, expected)) << "seed " << seed;
        }
      }
      expect_same(overlapped.masters(), serial.masters());
    }
  }
}

TEST(OverlappedStep, OfWeightsInHostMemoryHasTheSameBits) {
  const auto config = [](bool overlap) {
    formats::DsConfig mixed = small::on_nvme(Precision::kBf16);
    mixed.zero.offload_param.device = OffloadDevice::kCpu;
    return overlapping(mixed, overlap);
  };
  Chain overlapped(config(true)), serial(config(false));
  for (int step = 0; step < kSteps; ++step) {
    EXPECT_EQ(overlapped.train(step).grad_norm, serial.train(step).grad_norm);
  }
  expect_same(overlapped.masters(), serial.masters());
}

TEST(OverlappedStep, MayBeUnderWayWhenTheEngineIsDestroyed) {
  for (int i = 0; i < 5; ++i) {
    Chain chain(overlapping(small::on_nvme(), true));
    chain.train(1);
  }
}

}  // namespace
}  // namespace strata::overlapped_step_test
