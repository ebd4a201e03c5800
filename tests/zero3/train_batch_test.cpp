#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "strata/base/timeline.h"
#include "zero3/small_engine.h"

/// \file
/// Engine::train_batch on sequences that fit on a page: what it sums in which order, what it
/// refuses, and what is left when it fails.

namespace strata::train_batch_test {
namespace {

using small::expect_same;
using small::message_of;
using testing::ElementsAre;
using testing::HasSubstr;
using torch::Tensor;
using Tensors = UnitSequence::Tensors;

constexpr std::int64_t kMicroBatches = 3;

/// SGD at rate 1: a step takes the gradient from the master.
formats::DsConfig config() {
  formats::DsConfig config = small::on_nvme();
  config.gradient_accumulation_steps = kMicroBatches;
  config.optimizer = {.type = formats::OptimizerType::kSgd, .lr = 1.0};
  return config;
}

std::vector<Tensors> batch_of(std::int64_t micro_batches = kMicroBatches) {
  std::vector<Tensors> batch;
  for (std::int64_t i = 0; i < micro_batches; ++i) {
    batch.push_back({small::input(static_cast<std::uint64_t>(i))});
  }
  return batch;
}

Tensor loss_of(const Tensor& x) { return x.square().mean(); }

/// Two layers and a loss.
struct Two {
  explicit Two(const formats::DsConfig& given = config()) : engine(given) {
    first = engine.shard(small::linear(1));
    second = engine.shard(small::linear(2));
  }

  [[nodiscard]] UnitSequence sequence() const {
    UnitSequence model;
    model.add(first).add(second, [](torch::nn::LinearImpl& layer, const Tensors& x, const auto&) {
      return loss_of(layer.forward(torch::tanh(x[0])));
    });
    return model;
  }

  Tensor loss(const Tensor& x) { return loss_of(second(torch::tanh(first(x)))); }

  StepReport train_in_loop(std::int64_t micro_batches = kMicroBatches) {
    for (const Tensors& micro_batch : batch_of(micro_batches)) {
      engine.backward(loss(micro_batch[0]));
      if (engine.step().updated) break;
    }
    return micro_batches < kMicroBatches ? engine.step_now() : StepReport{};
  }

  std::vector<Tensor> masters() { return small::masters_of(engine); }

  Engine engine;
  Sharded<torch::nn::Linear> first, second;
};

TEST(TrainBatch, TakesThePlaceOfTheOrdinaryLoop) {
  Two batches, loop;
  for (int step = 0; step < 3; ++step) {
    const BatchReport report = batches.engine.train_batch(batches.sequence(), batch_of());
    loop.train_in_loop();
    EXPECT_TRUE(report.step.updated);
    EXPECT_EQ(report.step.step, step + 1);
  }
  expect_same(batches.masters(), loop.masters());
}

TEST(TrainBatch, ReportsTheLossOfEachMicroBatchAsTheModelGaveIt) {
  Two batches, plain;
  const BatchReport report = batches.engine.train_batch(batches.sequence(), batch_of());
  ASSERT_EQ(report.losses.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(report.losses[i], plain.loss(batch_of()[i][0]).item<double>());
  }
}

TEST(TrainBatch, CountsFewerMicroBatchesAsStepNowDoes) {
  for (const std::int64_t micro_batches : {1, 2}) {
    Two batches, loop;
    batches.engine.train_batch(batches.sequence(), batch_of(micro_batches));
    loop.train_in_loop(micro_batches);
    expect_same(batches.masters(), loop.masters());
  }
}

TEST(TrainBatch, CanTakeTurnsWithTheOrdinaryLoop) {
  Two turns, loop;
  for (int step = 0; step < 6; ++step) {
    if (step % 2 == 0) {
      turns.engine.train_batch(turns.sequence(), batch_of());
    } else {
      turns.train_in_loop();
    }
    loop.train_in_loop();
  }
  expect_same(turns.masters(), loop.masters());
}

TEST(TrainBatch, AddsTheMicroBatchesOfOneUseOfAUnitBeforeThoseOfItsNextUse) {
  Engine engine(config());
  Sharded<torch::nn::Linear> tied = engine.shard(small::linear(1));
  UnitSequence model;
  model.add(tied).add(tied, [](torch::nn::LinearImpl& layer, const Tensors& x, const auto&) {
    return loss_of(layer.forward(torch::tanh(x[0])));
  });
  const Tensor before = small::weight_of(tied);
  engine.train_batch(model, batch_of());

  // Plain LibTorch, with a layer for each use.
  torch::nn::Linear in = small::linear(1), out = small::linear(1);
  Tensor sum_of_in, sum_of_out;
  const auto add = [](Tensor& sum, const Tensor& gradient) {
    sum = sum.defined() ? sum + gradient : gradient.clone();
  };
  for (const Tensors& micro_batch : batch_of()) {
    in->zero_grad();
    out->zero_grad();
    (loss_of(out(torch::tanh(in(micro_batch[0])))) / double{kMicroBatches}).backward();
    add(sum_of_in, in->weight.grad());
    add(sum_of_out, out->weight.grad());
  }
  EXPECT_TRUE(torch::equal(small::weight_of(tied), before - (sum_of_out + sum_of_in)));
}

TEST(TrainBatch, SumsTwoParametersApartThatWereGivenOneGradient) {
  struct Bias : torch::nn::Module {
    Bias() {
      left = register_parameter("left", torch::zeros({small::kWidth}));
      right = register_parameter("right", torch::zeros({small::kWidth}));
    }
    Tensor forward(const Tensor& x) { return (x + (left + right)).sum(); }
    Tensor left, right;
  };
  Engine engine(config());
  auto bias = engine.shard(std::make_shared<Bias>());
  UnitSequence model;
  model.add(bias);
  engine.train_batch(model, batch_of());
  // Rows of 4, each with a gradient of 1, three times a third.
  const Tensor third = torch::full({small::kWidth}, 4.0f * (1.0f / 3.0f));
  for (const Tensor& value : small::values_of(bias)) {
    EXPECT_TRUE(torch::allclose(value, -3 * third)) << value;
  }
}

TEST(TrainBatch, HandsAnyNumberOfTensorsFromUnitToUnit) {
  Engine engine(config());
  auto first = engine.shard(small::linear(1)), second = engine.shard(small::linear(2));
  UnitSequence model;
  model.add(first, [](auto& layer, const Tensors& x, const auto&) {
    return Tensors{layer.forward(x[0]), x[0], torch::ones({1}, torch::kInt64), Tensor()};
  });
  model.add(second, [](auto& layer, const Tensors& x, const Tensors& micro_batch) {
    EXPECT_EQ(x.size(), 4u);
    EXPECT_FALSE(x[3].defined());
    EXPECT_TRUE(torch::equal(x[1], micro_batch[0]));
    return loss_of(layer.forward(x[0]) + x[1] * x[2]);
  });
  engine.train_batch(model, batch_of());

  torch::nn::Linear a = small::linear(1), b = small::linear(2);
  for (const Tensors& micro_batch : batch_of()) {
    (loss_of(b(a(micro_batch[0])) + micro_batch[0]) / double{kMicroBatches}).backward();
  }
  EXPECT_TRUE(torch::allclose(small::weight_of(first), a->weight - a->weight.grad(), 1e-6, 1e-7));
  EXPECT_TRUE(torch::allclose(small::weight_of(second), b->weight - b->weight.grad(), 1e-6, 1e-7));
}

TEST(TrainBatch, DoesNotComeBackToUnitsBelowAllThatTrain) {
  Engine engine(config());
  torch::nn::Linear below = small::linear(1);
  for (Tensor& parameter : below->parameters()) parameter.set_requires_grad(false);
  Sharded<torch::nn::Linear> frozen = engine.shard(below);
  Sharded<torch::nn::Linear> trained = engine.shard(small::linear(2));
  UnitSequence model;
  model.add(frozen).add(trained, [](auto& layer, const Tensors& x, const auto&) {
    return loss_of(layer.forward(x[0]));
  });
  int entries = 0;
  engine.before_each_unit([&] { ++entries; });
  engine.train_batch(model, batch_of());
  EXPECT_EQ(entries, 9) << "forward through both, backward through one";
}

TEST(TrainBatch, CountsNothingOfABatchThatFails) {
  Two failing, other;
  int runs = 0, fails_at = 0;
  UnitSequence model;
  model.add(failing.first);
  model.add(failing.second, [&](auto& layer, const Tensors& x, const auto&) {
    if (++runs == fails_at) throw std::runtime_error("the body fails");
    return loss_of(layer.forward(torch::tanh(x[0])));
  });
  for (fails_at = 1; fails_at <= 3; ++fails_at) {
    runs = 0;
    EXPECT_THROW(failing.engine.train_batch(model, batch_of()), std::runtime_error);
  }
  runs = 0;
  fails_at = 0;
  failing.engine.train_batch(model, batch_of());
  other.engine.train_batch(other.sequence(), batch_of());
  expect_same(failing.masters(), other.masters());
}

TEST(TrainBatch, CountsNothingOfABatchThatFailsInBackward) {
  Two failing, other;
  int entries = 0, fails_at = 8;  // of 3 + 3 forward and 3 + 3 backward: in the lower unit's
  failing.engine.before_each_unit([&] {
    if (++entries == fails_at) throw std::runtime_error("interrupted");
  });
  for (; fails_at <= 12; ++fails_at) {
    entries = 0;
    EXPECT_THROW(failing.engine.train_batch(failing.sequence(), batch_of()), std::runtime_error)
        << fails_at;
  }
  entries = 0;
  failing.engine.train_batch(failing.sequence(), batch_of());
  EXPECT_EQ(entries, 12);
  other.engine.train_batch(other.sequence(), batch_of());
  expect_same(failing.masters(), other.masters());
}

TEST(TrainBatch, RefusesWhatIsNoBatch) {
  Two two;
  const auto refusal = [&](const UnitSequence& model, const std::vector<Tensors>& batch) {
    return message_of<UsageError>([&] { two.engine.train_batch(model, batch); });
  };
  EXPECT_THAT(refusal({}, batch_of()), HasSubstr("without units"));
  EXPECT_THAT(refusal(two.sequence(), {}), HasSubstr("0 micro-batches"));
  EXPECT_THAT(refusal(two.sequence(), batch_of(4)), HasSubstr("gradient_accumulation_steps = 3"));
  UnitSequence of_tensors;
  of_tensors.add(two.first);
  EXPECT_THAT(refusal(of_tensors, batch_of()), HasSubstr("a loss of one element"));
  UnitSequence of_two_losses;
  of_two_losses.add(two.first, [](auto& layer, const Tensors& x, const auto&) {
    const Tensor loss = loss_of(layer.forward(x[0]));
    return Tensors{loss, loss.clone()};
  });
  EXPECT_THAT(refusal(of_two_losses, batch_of()), HasSubstr("the loss alone, not 2 tensors"));
  {
    const torch::NoGradGuard no_grad;
    EXPECT_THAT(refusal(two.sequence(), batch_of()), HasSubstr("NoGradGuard"));
  }
  two.engine.backward(two.loss(small::input()));
  EXPECT_THAT(refusal(two.sequence(), batch_of()), HasSubstr("after 1 backward()"));
  two.engine.zero_grad();

  Two other;
  two.engine.train_batch(two.sequence(), batch_of());
  other.engine.train_batch(other.sequence(), batch_of());
  expect_same(two.masters(), other.masters());
}

TEST(TrainBatch, RefusesToBeginWhileAUnitIsInUse) {
  Two two;
  std::string message;
  two.first.with_unsharded([&] {
    message = message_of<UsageError>([&] { two.engine.train_batch(two.sequence(), batch_of()); });
  });
  EXPECT_THAT(message, HasSubstr("while unit"));
}

TEST(TrainBatch, RecordsItsPhases) {
  Two two;
  two.engine.train_batch(two.sequence(), batch_of());
  Timeline timeline;
  two.engine.record_into(&timeline);
  two.engine.train_batch(two.sequence(), batch_of());
  two.engine.record_into(nullptr);
  const TimelineRecord record = timeline.read();
  std::vector<std::string> phases;
  for (const TimelineRecord::Span& span : record.spans) {
    if (span.kind == SpanKind::kPhase) phases.push_back(record.names[span.name]);
  }
  EXPECT_THAT(phases, ElementsAre("forward", "loss", "backward", "update"));
}

// ---- strata.step_under_backward -------------------------------------------------------------

constexpr std::int64_t kUnits = 6;

/// A chain of layers, the first of them used at both ends.
struct Chain {
  explicit Chain(bool under_backward, Precision precision = Precision::kFp32,
                 std::int64_t micro_batches = kMicroBatches)
      : engine(config_of(under_backward, precision, micro_batches)) {
    for (std::int64_t i = 0; i < kUnits; ++i) {
      layers.push_back(engine.shard(small::linear(static_cast<std::uint64_t>(i))));
      model.add(layers.back(), [](auto& layer, const Tensors& x, const auto&) {
        return torch::tanh(layer.forward(x[0]));
      });
    }
    model.add(layers.front(), [this](auto& layer, const Tensors& x, const auto&) {
      return loss_of(layer.forward(x[0])) * factor;
    });
  }

  static formats::DsConfig config_of(bool under_backward, Precision precision,
                                     std::int64_t micro_batches) {
    formats::DsConfig config = small::on_nvme(precision);
    config.gradient_accumulation_steps = micro_batches;
    config.strata.step_under_backward = under_backward;
    return config;
  }

  BatchReport train(std::int64_t micro_batches = kMicroBatches) {
    return engine.train_batch(model, batch_of(micro_batches));
  }

  std::vector<Tensor> masters() { return small::masters_of(engine); }

  double factor = 1.0;
  Engine engine;
  std::vector<Sharded<torch::nn::Linear>> layers;
  UnitSequence model;
};

TEST(StepUnderBackward, HasTheBitsOfAStepAfterIt) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    for (const std::int64_t micro_batches : {1, 3}) {
      Chain under(true, precision, micro_batches), after(false, precision, micro_batches);
      for (int step = 0; step < 5; ++step) {
        const BatchReport left = under.train(micro_batches);
        const BatchReport right = after.train(micro_batches);
        EXPECT_EQ(left.losses, right.losses) << step;
        EXPECT_EQ(left.step.grad_norm, right.step.grad_norm) << step;
        EXPECT_EQ(left.step.step, right.step.step) << step;
      }
      expect_same(under.masters(), after.masters());
    }
  }
}

TEST(StepUnderBackward, UpdatesAUnitWhileBackwardGoesOn) {
  Chain chain(true);
  chain.train();
  chain.engine.finish_step();
  const std::uint64_t before = chain.engine.counters()[Hop::kStep].busy_ns;
  int entries = 0;
  bool has_updated = false;
  chain.engine.before_each_unit([&] {
    // The last of all: backward through the first layer. It goes on when something is updated.
    if (++entries != kMicroBatches * (2 * kUnits + 2)) return;
    for (int i = 0; i < 20'000 && !has_updated; ++i) {
      has_updated = chain.engine.counters()[Hop::kStep].busy_ns > before;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  chain.train();
  EXPECT_TRUE(has_updated);
}

TEST(StepUnderBackward, EndsTheRunWhenAGradientIsNotFinite) {
  Chain chain(true);
  chain.train();
  chain.factor = std::numeric_limits<double>::infinity();
  EXPECT_THAT(message_of<DataError>([&] { chain.train(); }), HasSubstr("holds inf"));
}

TEST(StepUnderBackward, MakesNoStepMoreAfterABackwardThatFailedWithUnitsUpdated) {
  Chain chain(true);
  chain.train();
  int entries = 0;
  chain.engine.before_each_unit([&] {
    if (++entries == kMicroBatches * (2 * kUnits + 2)) throw std::runtime_error("interrupted");
  });
  EXPECT_THROW(chain.train(), std::runtime_error);
  EXPECT_THAT(message_of<UsageError>([&] { chain.train(); }), HasSubstr("half a step"));
  EXPECT_THAT(message_of<UsageError>([&] { chain.masters(); }), HasSubstr("make a new engine"));
}

TEST(StepUnderBackward, LeavesNothingOfABatchThatFailsBeforeAnyUnitIsUpdated) {
  Chain failing(true), other(true);
  int entries = 0;
  failing.engine.before_each_unit([&] {
    if (++entries == kMicroBatches * kUnits) throw std::runtime_error("interrupted");
  });
  EXPECT_THROW(failing.train(), std::runtime_error);
  failing.train();
  other.train();
  expect_same(failing.masters(), other.masters());
}

TEST(StepUnderBackward, IsRefusedWithWhatHasToKnowAllGradientsFirst) {
  formats::DsConfig clipping = Chain::config_of(true, Precision::kFp32, 1);
  clipping.gradient_clipping = 1.0;
  EXPECT_THAT(message_of<ConfigError>([&] { Engine{clipping}; }),
              HasSubstr("set gradient_clipping to 0"));
  const formats::DsConfig fp16 = Chain::config_of(true, Precision::kFp16, 1);
  EXPECT_THAT(message_of<ConfigError>([&] { Engine{fp16}; }), HasSubstr("train in bf16"));
}

}  // namespace
}  // namespace strata::train_batch_test
