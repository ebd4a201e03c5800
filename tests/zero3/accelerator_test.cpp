#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "simulated_accelerator/simulated_accelerator.h"
#include "strata/base/error.h"
#include "strata/zero3/sharded.h"
#include "strata/zero3/tiled.h"
#include "strata/zero3/unit_sequence.h"
#include "zero3/small_engine.h"

/// \file
/// Engines on the simulated accelerator: the bits of those on host memory, every access ordered by
/// an event, and not one of these events too many.

namespace strata {
namespace {

using formats::OffloadDevice;
using simulated::SimulatedAccelerator;
using small::expect_same;
using small::masters_of;
using testing::IsEmpty;
using testing::Not;

constexpr OffloadDevice kHomes[] = {OffloadDevice::kNone, OffloadDevice::kCpu,
                                    OffloadDevice::kNvme};

support::SimDeviceOptions slow_streams(std::uint64_t seed) {
  support::SimDeviceOptions options = SimulatedAccelerator::roomy();
  options.max_delay = std::chrono::microseconds(300);
  options.seed = seed;
  return options;
}

EnginePlace on(SimulatedAccelerator& accelerator) {
  return {&accelerator.device(), SimulatedAccelerator::torch_device()};
}

// ---- every wait is needed ----------------------------------------------------------------------

constexpr int kLayers = 4;

/// Four layers, of which two at a time have room on the device.
formats::DsConfig crowded(OffloadDevice home) {
  formats::DsConfig config = small::config_for(home, Precision::kBf16);
  config.strata.recompute = true;
  zero3::PlanInput input = zero3::plan_input_from(config);
  input.device_memory_is_host = false;
  zero3::UnitLayout layout;
  layout.add("weight", {small::kWidth, small::kWidth}, true);
  layout.add("bias", {small::kWidth}, true);
  input.units.assign(kLayers, layout);
  const zero3::TierBytes least = zero3::smallest_budgets(input);
  config.strata.device_budget_bytes = least.device;
  if (home != OffloadDevice::kNone) *config.strata.device_budget_bytes += 4096;
  config.strata.host_budget_bytes = least.host;
  return config;
}

/// Two steps, the second one in the order that the first has shown, and an evaluation.
void train(Engine& engine) {
  std::vector<Sharded<torch::nn::Linear>> layers;
  for (std::uint64_t i = 0; i < kLayers; ++i) {
    layers.push_back(engine.shard(small::linear(i), {.name = std::to_string(i)}));
  }
  for (int step = 0; step < 2; ++step) {
    torch::Tensor x = small::input().to(engine.device());
    for (auto& layer : layers) x = torch::gelu(layer(x));
    engine.backward(x.to(torch::kFloat32).square().mean());
    engine.step();
  }
  const torch::NoGradGuard no_grad;  // and what nobody waits for
  torch::Tensor x = small::input().to(engine.device());
  for (auto& layer : layers) x = layer(x);
}

struct Outcome {
  std::vector<support::Race> races;
  std::vector<std::string> waits;
};

Outcome train_on_accelerator(OffloadDevice home, const support::SimDeviceOptions& options) {
  Outcome outcome;
  SimulatedAccelerator accelerator(options);
  {
    Engine engine(crowded(home), on(accelerator));
    train(engine);
  }
  outcome.races = accelerator.races();
  outcome.waits = accelerator.waits();
  return outcome;
}

/// Whether the host waited for the same afterwards, as it does when slots come back: what it puts
/// on streams then is in order, too.
bool is_made_good(const std::vector<std::string>& waits, std::size_t missing) {
  const std::string& wait = waits[missing];
  const std::string same_by_host = "the host for " + wait.substr(wait.find(" for ") + 5);
  return std::find(waits.begin() + static_cast<std::ptrdiff_t>(missing) + 1, waits.end(),
                   same_by_host) != waits.end();
}

class EngineOnAccelerator : public testing::TestWithParam<OffloadDevice> {};

TEST_P(EngineOnAccelerator, HasTheBitsOfHostMemoryAndOrdersEveryAccess) {
  Engine on_host(small::config_for(GetParam(), Precision::kBf16));
  train(on_host);
  const std::vector<torch::Tensor> expected = masters_of(on_host);
  for (const std::uint64_t seed : {1, 2, 3}) {
    SimulatedAccelerator accelerator(slow_streams(seed));
    {
      Engine engine(crowded(GetParam()), on(accelerator));
      train(engine);
      expect_same(masters_of(engine), expected);
    }
    for (const support::Race& race : accelerator.races()) ADD_FAILURE() << race.text;
  }
}

TEST_P(EngineOnAccelerator, IsReportedWithoutAnyOneOfItsWaits) {
  const std::size_t waits =
      train_on_accelerator(GetParam(), SimulatedAccelerator::roomy()).waits.size();
  ASSERT_GT(waits, 20u);
  std::size_t tried = 0;
  for (std::size_t i = 1; i <= waits; ++i) {
    support::SimDeviceOptions options = SimulatedAccelerator::roomy();
    options.suppress_wait = i;
    const Outcome outcome = train_on_accelerator(GetParam(), options);
    if (outcome.waits.size() < i || is_made_good(outcome.waits, i - 1)) continue;
    ++tried;
    EXPECT_THAT(outcome.races, Not(IsEmpty()))
        << "without wait " << i << ": " << outcome.waits[i - 1];
  }
  EXPECT_GT(tried, waits / 2);
}

INSTANTIATE_TEST_SUITE_P(Homes, EngineOnAccelerator, testing::ValuesIn(kHomes),
                         [](const auto& tested) {
                           return std::string(tested.param == OffloadDevice::kNone  ? "device"
                                              : tested.param == OffloadDevice::kCpu ? "host"
                                                                                    : "nvme");
                         });

// ---- gradients that leave while the next unit computes -----------------------------------------

// The square of it fills a staging slot with gradients, and a part of another.
constexpr std::int64_t kWide = 1100;

/// Batches whose units are updated under backward, with least device memory or as much as is of
/// use.
formats::DsConfig wide_config(bool is_crowded) {
  formats::DsConfig config = small::on_nvme(Precision::kBf16);
  config.gradient_accumulation_steps = 2;
  config.strata.step_under_backward = true;
  if (!is_crowded) return config;
  zero3::PlanInput input = zero3::plan_input_from(config);
  input.device_memory_is_host = false;
  zero3::UnitLayout layout;
  layout.add("weight", {kWide, kWide}, true);
  layout.add("bias", {kWide}, true);
  input.units.assign(kLayers, layout);
  config.strata.device_budget_bytes = zero3::smallest_budgets(input).device;
  return config;
}

std::vector<torch::Tensor> train_wide(Engine& engine) {
  UnitSequence model;
  for (std::uint64_t i = 0; i < kLayers; ++i) {
    auto layer = engine.shard(small::linear(i, kWide, kWide), {.name = std::to_string(i)});
    model.add(std::move(layer), [i](torch::nn::LinearImpl& module, const UnitSequence::Tensors& x,
                                    const UnitSequence::Tensors&) {
      const torch::Tensor y = module.forward(x[0]);
      return i + 1 < kLayers ? torch::gelu(y) : y.to(torch::kFloat32).square().mean();
    });
  }
  for (std::uint64_t step = 0; step < 2; ++step) {
    std::vector<UnitSequence::Tensors> batch;
    for (std::uint64_t i = 0; i < 2; ++i) {
      torch::manual_seed(2 * step + i);
      batch.push_back({torch::randn({2, kWide}).to(torch::kBFloat16).to(engine.device())});
    }
    (void)engine.train_batch(model, batch);
  }
  return masters_of(engine);
}

TEST(GradientsOnAccelerator, OfSeveralPiecesHaveTheBitsOfHostMemoryInOneBucketOrMany) {
  Engine on_host(wide_config(/*is_crowded=*/false));
  const std::vector<torch::Tensor> expected = train_wide(on_host);
  for (const bool is_crowded : {false, true}) {
    SimulatedAccelerator accelerator(slow_streams(3));
    {
      Engine engine(wide_config(is_crowded), on(accelerator));
      expect_same(train_wide(engine), expected);
      const std::uint64_t gradient = kWide * (kWide + 1) * sizeof(float);
      EXPECT_EQ(engine.plan().bucket_bytes > gradient, !is_crowded);
    }
    for (const support::Race& race : accelerator.races()) ADD_FAILURE() << race.text;
  }
}

// ---- what modules do ---------------------------------------------------------------------------

struct Recurrent : torch::nn::Module {
  Recurrent() {
    lstm = register_module("lstm",
                           torch::nn::LSTM(torch::nn::LSTMOptions(small::kWidth, small::kWidth)));
    out = register_module("out", torch::nn::Linear(small::kWidth, small::kWidth));
  }
  torch::Tensor forward(const torch::Tensor& x) {
    return out(std::get<0>(lstm(x.view({2, 2, small::kWidth}))).view({4, small::kWidth}));
  }
  torch::nn::LSTM lstm{nullptr};
  torch::nn::Linear out{nullptr};
};

/// A module with buffers that its forward changes, and dropout.
struct Convolutional : torch::nn::Module {
  Convolutional() {
    convolution =
        register_module("convolution", torch::nn::Conv2d(torch::nn::Conv2dOptions(1, 3, 3)));
    norm = register_module("norm", torch::nn::BatchNorm2d(3));
    out = register_module("out", torch::nn::Linear(3 * 2 * 4, small::kWidth));
  }
  torch::Tensor forward(const torch::Tensor& x) {
    const torch::Tensor image = torch::relu(norm(convolution(x.view({4, 1, 4, 6}))));
    return out(torch::dropout(image.view({4, -1}), 0.2, is_training()));
  }
  torch::nn::Conv2d convolution{nullptr};
  torch::nn::BatchNorm2d norm{nullptr};
  torch::nn::Linear out{nullptr};
};

template <class Module>
std::vector<torch::Tensor> train_module(Engine& engine) {
  torch::manual_seed(3);
  auto first = engine.shard(std::make_shared<Module>(), {.name = "first"});
  auto second = engine.shard(std::make_shared<Module>(), {.name = "second"});
  for (int step = 0; step < 3; ++step) {
    const torch::Tensor x = small::input(static_cast<std::uint64_t>(step)).to(engine.device());
    torch::manual_seed(static_cast<std::uint64_t>(step));  // x has drawn from the host's generator
    small::train_once(engine, second(first(x)).square().mean());
  }
  std::vector<torch::Tensor> values = masters_of(engine);
  for (const torch::Tensor& buffer : first->buffers()) values.push_back(buffer.cpu().clone());
  return values;
}

template <class Module>
void expect_bits_of_host() {
  for (const bool recompute : {false, true}) {
    SCOPED_TRACE(recompute ? "recomputed" : "kept");
    formats::DsConfig config = small::on_nvme();
    config.strata.recompute = recompute;
    Engine on_host(config);
    const std::vector<torch::Tensor> expected = train_module<Module>(on_host);
    SimulatedAccelerator accelerator(slow_streams(1));
    {
      Engine engine(config, on(accelerator));
      expect_same(train_module<Module>(engine), expected);
    }
    for (const support::Race& race : accelerator.races()) ADD_FAILURE() << race.text;
  }
}

TEST(ModulesOnAccelerator, RecurrentOnesHaveTheBitsOfHostMemory) {
  expect_bits_of_host<Recurrent>();
}

TEST(ModulesOnAccelerator, ConvolutionsWithBuffersAndDropoutHaveTheBitsOfHostMemory) {
  expect_bits_of_host<Convolutional>();
}

// ---- what a program does between steps ---------------------------------------------------------

/// Weights that a visitor changed, a state that was loaded, gradients that were read.
std::vector<torch::Tensor> edit_and_train(Engine& engine) {
  auto layer = engine.shard(small::linear(1), {.name = "layer"});
  auto other = engine.shard(small::linear(2), {.name = "other"});
  const auto step = [&] {
    engine.backward(other(layer(small::input().to(engine.device()))).square().mean());
  };
  std::vector<torch::Tensor> seen;
  step();
  engine.visit_gradients(
      [&](const std::string&, const torch::Tensor& value) { seen.push_back(value.clone()); });
  engine.step();
  layer.with_unsharded([&] {
    const torch::NoGradGuard no_grad;
    layer->weight.mul_(0.5);
    layer->bias.set_data(torch::ones_like(layer->bias));
  });
  auto state = layer.state_dict();
  state["weight"].mul_(2.0);
  other.load_state_dict(state);
  step();
  engine.step();
  for (const torch::Tensor& value : masters_of(engine)) seen.push_back(value);
  return seen;
}

class EditsOnAccelerator : public testing::TestWithParam<OffloadDevice> {};

TEST_P(EditsOnAccelerator, BetweenStepsHaveTheBitsOfHostMemory) {
  const formats::DsConfig config = small::config_for(GetParam(), Precision::kBf16);
  Engine on_host(config);
  const std::vector<torch::Tensor> expected = edit_and_train(on_host);
  SimulatedAccelerator accelerator(slow_streams(2));
  {
    Engine engine(config, on(accelerator));
    expect_same(edit_and_train(engine), expected);
  }
  for (const support::Race& race : accelerator.races()) ADD_FAILURE() << race.text;
}

INSTANTIATE_TEST_SUITE_P(Homes, EditsOnAccelerator, testing::ValuesIn(kHomes));

TEST(ModulesOnAccelerator, LayersInTilesHaveTheBitsOfHostMemory) {
  const auto train_tiles = [](Engine& engine) {
    torch::manual_seed(4);
    TiledEmbedding table(engine, torch::nn::Embedding(50, small::kWidth),
                         {.name = "table", .elements_max = 15 * small::kWidth});
    TiledLinear head(engine, small::linear(1, small::kWidth, 40),
                     {.name = "head", .elements_max = 15 * small::kWidth});
    for (int step = 0; step < 3; ++step) {
      torch::manual_seed(static_cast<std::uint64_t>(step));
      const torch::Tensor tokens = torch::randint(50, {4, 5}, torch::kInt64).to(engine.device());
      const torch::Tensor y = table.project(torch::tanh(table(tokens)));
      small::train_once(engine, (head(torch::tanh(table(tokens))).square().mean() + y.mean()));
    }
    return masters_of(engine);
  };
  const formats::DsConfig config = small::on_nvme(Precision::kBf16);
  Engine on_host(config);
  const std::vector<torch::Tensor> expected = train_tiles(on_host);
  SimulatedAccelerator accelerator(slow_streams(1));
  {
    Engine engine(config, on(accelerator));
    expect_same(train_tiles(engine), expected);
  }
  for (const support::Race& race : accelerator.races()) ADD_FAILURE() << race.text;
}

TEST(ModulesOnAccelerator, ThatAreThereAlreadyAreTakenAsTheyAre) {
  SimulatedAccelerator accelerator;
  {
    Engine engine(small::on_nvme(), on(accelerator));
    auto module = small::linear(1);
    const torch::Tensor expected = module->weight.detach().clone();
    module->to(engine.device());
    auto layer = engine.shard(std::move(module));
    EXPECT_TRUE(torch::equal(masters_of(engine)[0], expected));
  }
  EXPECT_THAT(accelerator.races(), IsEmpty());
}

TEST(ModulesOnAccelerator, ThatAreOnAnotherDeviceAreRefusedByName) {
  Engine engine(small::on_nvme());
  SimulatedAccelerator accelerator;
  auto module = small::linear(1);
  module->to(SimulatedAccelerator::torch_device());
  EXPECT_THAT(small::message_of<UsageError>([&] { (void)engine.shard(std::move(module)); }),
              testing::HasSubstr("'weight' is on "));
}

// ---- what goes wrong ---------------------------------------------------------------------------

TEST(FailuresOfTheDevice, EndTheTrainingWhereverTheyComeAndNameTheDevice) {
  const auto train_with = [](std::size_t fail_operation) {
    support::SimDeviceOptions options = SimulatedAccelerator::roomy();
    options.fail_operation = fail_operation;
    SimulatedAccelerator accelerator(options);
    Engine engine(crowded(OffloadDevice::kNvme), on(accelerator));
    train(engine);
    return accelerator.device().operations();
  };
  const std::size_t operations = train_with(0);
  for (std::size_t failing = 1; failing < operations / 2; failing += operations / 24) {
    EXPECT_THAT([&] { (void)train_with(failing); },
                testing::ThrowsMessage<DeviceError>(testing::HasSubstr("as the test asked")))
        << "operation " << failing << " of " << operations;
  }
}

}  // namespace
}  // namespace strata
