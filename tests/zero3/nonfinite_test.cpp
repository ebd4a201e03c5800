#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "strata/base/error.h"
#include "support/temp_directory.h"
#include "support/torture.h"
#include "zero3/small_engine.h"
#include "zero3/thread_world.h"

/// \file
/// A gradient that is Inf or NaN, in a random rank, parameter, element and micro-batch: the step is
/// left out or refused by the parameter's name, on all ranks, and no bit of any state differs.

namespace strata::nonfinite_test {
namespace {

namespace fs = std::filesystem;
using formats::DsConfig;
using formats::NonfinitePolicy;
using small::message_of;
using support::TempDirectory;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using torch::Tensor;

constexpr std::int64_t kLayers = 3;
constexpr std::int64_t kMicroBatches = 3;

/// A value that takes the place of an element of a gradient.
struct Poison {
  std::int64_t layer = 0;
  bool in_bias = false;
  std::int64_t element = 0;
  float value = 0;
  std::int64_t micro_batch = 0;
  int rank = 0;

  [[nodiscard]] std::string parameter() const {
    return "layers." + std::to_string(layer) + (in_bias ? ".bias" : ".weight");
  }
};

Poison drawn_by(std::uint64_t seed, int ranks) {
  std::mt19937_64 random(seed);
  const auto below = [&](std::int64_t bound) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(bound));
  };
  using Limits = std::numeric_limits<float>;
  const float values[] = {Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN()};
  Poison poison{.layer = below(kLayers), .in_bias = below(2) == 1};
  poison.element = below(poison.in_bias ? small::kWidth : small::kWidth * small::kWidth);
  poison.value = values[below(3)];
  poison.micro_batch = below(kMicroBatches);
  poison.rank = static_cast<int>(below(ranks));
  return poison;
}

/// A linear layer whose gradients can be poisoned on their way to the parameter.
struct LayerImpl : torch::nn::Module {
  explicit LayerImpl(std::uint64_t seed) {
    const torch::nn::Linear like = small::linear(seed);
    weight = register_parameter("weight", like->weight.detach().clone());
    bias = register_parameter("bias", like->bias.detach().clone());
  }
  Tensor forward(const Tensor& x) {
    return torch::linear(x, passed(weight, /*is_bias=*/false), passed(bias, /*is_bias=*/true));
  }
  [[nodiscard]] Tensor passed(const Tensor& parameter, bool is_bias) const {
    Tensor on_the_way = parameter * 1;
    if (!poison || poison->in_bias != is_bias || !on_the_way.requires_grad()) return on_the_way;
    on_the_way.register_hook([at = *poison](const Tensor& gradient) {
      Tensor poisoned = gradient.clone();
      poisoned.view({-1})[at.element] = at.value;
      return poisoned;
    });
    return on_the_way;
  }
  Tensor weight, bias;
  std::optional<Poison> poison;
};
TORCH_MODULE(Layer);

/// One rank's run.
struct PoisonedRun {
  PoisonedRun(const DsConfig& config, zero3::Ranks* ranks)
      : rank(ranks != nullptr ? ranks->rank() : 0), engine(config, {.ranks = ranks}, &log) {
    for (std::int64_t i = 0; i < kLayers; ++i) {
      layers.push_back(engine.shard(Layer(static_cast<std::uint64_t>(i)),
                                    {.name = "layers." + std::to_string(i)}));
      model.add(layers.back(), [i](auto& layer, const std::vector<Tensor>& x, const auto&) {
        const Tensor y = torch::tanh(layer.forward(x[0]));
        return i + 1 < kLayers ? y : y.to(torch::kFloat32).square().mean();
      });
    }
  }

  [[nodiscard]] Tensor batch(std::uint64_t number) const {
    return small::input(number * 8 + static_cast<unsigned>(rank))
        .to(layers.front()->weight.scalar_type());
  }

  /// A step of all micro-batches, of which `poison` strikes one.
  StepReport step(std::uint64_t number, const std::optional<Poison>& poison = {}) {
    StepReport report;
    for (std::int64_t micro = 0; micro < kMicroBatches; ++micro) {
      const bool strikes = poison && poison->rank == rank && poison->micro_batch == micro;
      for (std::int64_t i = 0; i < kLayers; ++i) {
        auto& held = layers[static_cast<std::size_t>(i)]->poison;
        held = strikes && poison->layer == i ? poison : std::nullopt;
      }
      Tensor x = batch(number * kMicroBatches + static_cast<std::uint64_t>(micro));
      for (auto& layer : layers) x = torch::tanh(layer(x));
      engine.backward(x.to(torch::kFloat32).square().mean());
      report = engine.step();
    }
    return report;
  }

  int rank;
  std::ostringstream text;
  Logger log{text};
  Engine engine;
  std::vector<Sharded<Layer>> layers;
  UnitSequence model;
};

DsConfig config_of(Precision precision, NonfinitePolicy policy) {
  DsConfig config = small::on_nvme(precision);
  config.gradient_accumulation_steps = kMicroBatches;
  config.strata.nonfinite = policy;
  config.fp16.initial_scale_power = 4;
  config.fp16.hysteresis = 1;
  return config;
}

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The bytes of all states of parameters, by file.
using States = std::map<std::string, std::string>;
States states_in(const CheckpointInfo& checkpoint) {
  States states;
  for (const auto& entry : fs::directory_iterator(checkpoint.path)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".safetensors") && !name.starts_with("rank_")) {
      states[name] = contents(entry.path());
    }
  }
  return states;
}

void run_world(int size, const std::function<void(zero3::Ranks&)>& body) {
  for (const std::exception_ptr& each : zero3::run_ranks({.size = size}, body)) {
    if (each) std::rethrow_exception(each);
  }
}

struct Case {
  Precision precision;
  NonfinitePolicy policy;
  bool skips;
};

std::vector<Case> all_cases() {
  return {{Precision::kFp16, NonfinitePolicy::kDefault, true},
          {Precision::kBf16, NonfinitePolicy::kDefault, false},
          {Precision::kFp32, NonfinitePolicy::kDefault, false},
          {Precision::kBf16, NonfinitePolicy::kSkip, true},
          {Precision::kFp32, NonfinitePolicy::kSkip, true}};
}

/// One step is poisoned in the middle of a run. Afterwards it is as if the step had not been.
void expect_no_bit_changed(const Case& each, int ranks, std::uint64_t seed) {
  SCOPED_TRACE(std::string(name_of(each.precision)) + (each.skips ? ", skipped" : ", refused") +
               " on " + std::to_string(ranks) + " ranks, seed " + std::to_string(seed));
  const Poison poison = drawn_by(seed, ranks);
  const TempDirectory directory;
  run_world(ranks, [&](zero3::Ranks& world) {
    PoisonedRun run(config_of(each.precision, each.policy), &world);
    run.step(0);
    run.step(1);
    const CheckpointInfo before = run.engine.save_checkpoint(directory.path(), "before");
    if (each.skips) {
      const StepReport report = run.step(2, poison);
      EXPECT_TRUE(report.overflow);
      EXPECT_FALSE(report.updated);
      EXPECT_EQ(report.step, 2);
    } else {
      EXPECT_THAT(message_of<DataError>([&] { run.step(2, poison); }),
                  AllOf(HasSubstr("step 3: the gradient of parameter '" + poison.parameter() + "'"),
                        HasSubstr("at element " + std::to_string(poison.element)),
                        HasSubstr("nothing of the step was applied")));
    }
    const CheckpointInfo after = run.engine.save_checkpoint(directory.path(), "after");
    EXPECT_EQ(states_in(after), states_in(before));
    EXPECT_TRUE(run.step(3).updated);
    const CheckpointInfo went_on = run.engine.save_checkpoint(directory.path(), "went_on");
    PoisonedRun never(config_of(each.precision, each.policy), &world);
    for (const std::uint64_t number : {0, 1, 3}) never.step(number);
    const CheckpointInfo expected = never.engine.save_checkpoint(directory.path(), "never");
    // The scale halved: its gradients are rounded elsewhere in fp16.
    if (each.precision != Precision::kFp16) {
      EXPECT_EQ(states_in(went_on), states_in(expected));
    }
  });
}

TEST(Nonfinite, GradientsChangeNoBitOnAnyRankWhateverThePolicy) {
  std::uint64_t cases = 0;
  for (std::uint64_t round = 0; round < support::torture_cases(1); ++round) {
    for (const Case& each : all_cases()) {
      for (const int ranks : {1, 2, 3}) {
        expect_no_bit_changed(each, ranks, support::torture_seed() * 100'003 + cases);
        ++cases;
        if (testing::Test::HasFailure()) return;
      }
    }
  }
  support::report_cases("poisoned steps", cases);
}

TEST(Nonfinite, TheFirstOfSeveralParametersIsNamedInTheOrderOfUnits) {
  PoisonedRun run(config_of(Precision::kFp32, NonfinitePolicy::kError), nullptr);
  for (std::int64_t i = kLayers; i-- > 0;) {
    run.layers[static_cast<std::size_t>(i)]->poison =
        Poison{.layer = i, .in_bias = i != 1, .element = 5, .value = NAN};
  }
  run.layers[0]->poison.reset();
  for (std::int64_t micro = 0; micro < kMicroBatches; ++micro) {
    Tensor x = run.batch(1);
    for (auto& layer : run.layers) x = layer(x);
    run.engine.backward(x.square().mean());
    if (micro + 1 < kMicroBatches) run.engine.step();
  }
  EXPECT_THAT(message_of<DataError>([&] { run.engine.step(); }),
              AllOf(HasSubstr("'layers.1.weight' holds nan at element 5"),
                    HasSubstr("strata.nonfinite = \"skip\"")));
  EXPECT_TRUE(run.step(2).updated);
}

/// Trains a batch in which a gradient of the unit `layer` is not finite, updating under backward.
std::string refusal_under_backward(PoisonedRun& run, std::int64_t layer) {
  run.layers[static_cast<std::size_t>(layer)]->poison =
      Poison{.layer = layer, .element = 7, .value = -INFINITY};
  std::vector<std::vector<Tensor>> batches;
  for (std::uint64_t i = 0; i < kMicroBatches; ++i) batches.push_back({run.batch(i)});
  const std::string message =
      message_of<DataError>([&] { run.engine.train_batch(run.model, batches); });
  run.layers[static_cast<std::size_t>(layer)]->poison.reset();
  return message;
}

TEST(Nonfinite, UnderBackwardTheUnitsThatWereUpdatedAreNamedAndNothingIsSavedAnyMore) {
  const TempDirectory directory;
  for (const int ranks : {1, 2}) {
    run_world(ranks, [&](zero3::Ranks& world) {
      DsConfig config = config_of(Precision::kBf16, NonfinitePolicy::kDefault);
      config.strata.step_under_backward = true;
      PoisonedRun run(config, &world);
      run.step(0);
      const std::string good = run.engine.save_checkpoint(directory.path(), "good").tag;
      EXPECT_THAT(refusal_under_backward(run, 0),
                  AllOf(HasSubstr("'layers.0.weight' holds -inf at element 7"),
                        HasSubstr("of the step, 'layers.1', 'layers.2' had been updated"),
                        Not(HasSubstr("\"skip\""))));
      EXPECT_THAT(message_of<UsageError>([&] { run.engine.save_checkpoint(directory.path()); }),
                  HasSubstr("half a step"));
      EXPECT_THROW(run.step(1), UsageError);
      EXPECT_EQ(find_checkpoint(directory.path())->tag, good);
    });
  }
}

TEST(Nonfinite, UnderBackwardTheUnitThatComesFirstLeavesTheStatesAsTheyWere) {
  DsConfig config = config_of(Precision::kFp32, NonfinitePolicy::kDefault);
  config.strata.step_under_backward = true;
  PoisonedRun run(config, nullptr);
  run.step(0);
  const std::vector<Tensor> before = small::masters_of(run.engine);
  EXPECT_THAT(refusal_under_backward(run, kLayers - 1),
              AllOf(HasSubstr("'layers.2.weight' holds"), HasSubstr("nothing of the step")));
  small::expect_same(small::masters_of(run.engine), before);
  EXPECT_TRUE(run.step(1).updated);
}

TEST(Nonfinite, GradientsBetweenMicroBatchesAreNotSavedWhereTheyAreAnError) {
  for (const NonfinitePolicy policy : {NonfinitePolicy::kError, NonfinitePolicy::kSkip}) {
    const TempDirectory directory;
    PoisonedRun run(config_of(Precision::kFp32, policy), nullptr);
    run.step(0);
    run.layers[1]->poison = Poison{.layer = 1, .element = 3, .value = INFINITY};
    Tensor x = run.batch(4);
    for (auto& layer : run.layers) x = layer(x);
    run.engine.backward(x.square().mean());
    const std::string message =
        message_of<DataError>([&] { run.engine.save_checkpoint(directory.path()); });
    if (policy == NonfinitePolicy::kSkip) {
      EXPECT_EQ(message, support::kNothingThrown);
    } else {
      EXPECT_THAT(message, HasSubstr("'layers.1.weight' holds inf at element 3"));
      EXPECT_EQ(find_checkpoint(directory.path()), std::nullopt);
      run.engine.zero_grad();
      run.engine.save_checkpoint(directory.path());
    }
  }
}

TEST(Nonfinite, WeightsAreNotSaved) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16, Precision::kFp16}) {
    const TempDirectory directory;
    DsConfig config = config_of(precision, NonfinitePolicy::kDefault);
    config.optimizer.lr = 1e300;  // a step beyond every format
    PoisonedRun run(config, nullptr);
    run.step(0);
    EXPECT_THAT(message_of<DataError>([&] { run.engine.save_checkpoint(directory.path()); }),
                AllOf(HasSubstr("parameter 'layers."), HasSubstr("not finite")));
    EXPECT_EQ(find_checkpoint(directory.path()), std::nullopt);
    EXPECT_TRUE(fs::is_empty(directory.path()));
  }
}

TEST(Nonfinite, PoliciesThatCannotBeKeptAreRefused) {
  EXPECT_THAT(
      message_of<ConfigError>([] { Engine{config_of(Precision::kFp16, NonfinitePolicy::kError)}; }),
      HasSubstr("fp16 finds its loss scale by steps that it skips"));
  DsConfig config = config_of(Precision::kBf16, NonfinitePolicy::kSkip);
  config.strata.step_under_backward = true;
  EXPECT_THAT(message_of<ConfigError>([&] { Engine{config}; }),
              HasSubstr("strata.nonfinite = \"skip\""));
}

}  // namespace
}  // namespace strata::nonfinite_test
