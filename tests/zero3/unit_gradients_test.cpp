#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "strata/base/error.h"
#include "zero3/small_engine.h"

/// \file
/// Which gradients count, and that none is lost without a word.

namespace strata::unit_gradients_test {
namespace {

using small::input;
using small::linear;
using small::message_of;
using small::norm_of;
using small::on_nvme;
using small::train_once;
using testing::HasSubstr;
using torch::Tensor;

struct AuxImpl : torch::nn::Module {
  AuxImpl() : layer(register_module("layer", linear(1))) {}
  Tensor forward(const Tensor& x) {
    Tensor y = layer(x);
    aux = y.square().mean();
    return y;
  }
  torch::nn::Linear layer;
  Tensor aux;
};
TORCH_MODULE(Aux);

struct WithAuxImpl : torch::nn::Module {
  WithAuxImpl() : layer(register_module("layer", linear(1))) {}
  std::tuple<Tensor, Tensor> forward(const Tensor& x) {
    const Tensor y = layer(x);
    return {y, y.square().mean()};
  }
  torch::nn::Linear layer;
};
TORCH_MODULE(WithAux);

class UnitGradients : public testing::TestWithParam<bool> {
 protected:
  [[nodiscard]] static formats::DsConfig config() {
    formats::DsConfig config = on_nvme();
    config.strata.recompute = GetParam();
    return config;
  }
};
INSTANTIATE_TEST_SUITE_P(RecomputedAndKept, UnitGradients, testing::Bool());

TEST_P(UnitGradients, ACapturedTensorThatWantsAGradientIsRefused) {
  Engine engine(config());
  Sharded a = engine.shard(linear(1), {.name = "a"});
  Sharded b = engine.shard(linear(2), {.name = "b"});
  const Tensor hidden = a(input());
  const auto train = [&] {
    const Tensor y = b.run([&, hidden](const Tensor& x) { return b->forward(x + hidden); },
                           Recompute::kConfig, input());
    engine.backward(y.sum());
  };
  EXPECT_THAT(message_of<UsageError>(train),
              testing::AllOf(HasSubstr("'b'"), HasSubstr("argument")));
}

TEST_P(UnitGradients, ACapturedLeafThatWantsAGradientIsRefused) {
  Engine engine(config());
  Sharded a = engine.shard(linear(1), {.name = "a"});
  const Tensor prompt = torch::zeros({small::kWidth}, torch::requires_grad());
  const auto train = [&] {
    const Tensor y = a.run([&, prompt](const Tensor& x) { return a->forward(x + prompt); },
                           Recompute::kConfig, input());
    engine.backward(y.sum());
  };
  EXPECT_THAT(message_of<UsageError>(train), HasSubstr("'a'"));
}

TEST_P(UnitGradients, AUnitInsideAnotherIsTrainedThoughItsInputNeedsNoGradient) {
  Engine engine(config());
  torch::manual_seed(3);
  torch::nn::Embedding inner(10, small::kWidth), plain_inner = inner;
  torch::manual_seed(3);
  plain_inner = torch::nn::Embedding(10, small::kWidth);
  torch::nn::Linear outer = linear(1), plain_outer = linear(1);
  Sharded embedding = engine.shard(inner, {.name = "embedding"});
  Sharded a = engine.shard(outer, {.name = "a"});
  const Tensor ids = torch::tensor({1, 2, 3});
  for (int step = 0; step < 3; ++step) {
    engine.backward(a.run([&](const Tensor& t) { return outer->forward(embedding(t)); },
                          Recompute::kConfig, ids)
                        .square()
                        .mean());
    const double norm = engine.step().grad_norm;
    if (step > 0) continue;
    plain_outer(plain_inner(ids)).square().mean().backward();
    std::vector<Tensor> all = plain_outer->parameters();
    all.push_back(plain_inner->weight);
    EXPECT_NEAR(norm, norm_of(all), 1e-6 * norm);
  }
  EXPECT_FALSE(torch::equal(small::values_of(embedding)[0], plain_inner->weight));
}

TEST_P(UnitGradients, AFrozenUnitWithATrainingUnitInsideTrainsIt) {
  Engine engine(config());
  torch::nn::Linear frozen = linear(2), inner = linear(1), plain = linear(1);
  for (const Tensor& parameter : frozen->parameters()) parameter.set_requires_grad(false);
  Sharded outer = engine.shard(frozen, {.name = "outer"});
  Sharded trained = engine.shard(inner, {.name = "trained"});
  engine.backward(outer
                      .run([&](const Tensor& x) { return frozen->forward(trained(x)); },
                           Recompute::kConfig, input())
                      .square()
                      .sum());
  const double norm = engine.step().grad_norm;
  linear(2)(plain(input())).square().sum().backward();
  EXPECT_NEAR(norm, norm_of(plain->parameters()), 1e-5 * norm);
}

TEST_P(UnitGradients, AnAuxiliaryLossKeptInAMemberIsRefused) {
  Engine engine(config());
  Aux module;
  Sharded unit = engine.shard(module, {.name = "unit"});
  const Tensor y = unit(input());
  EXPECT_THAT(message_of<UsageError>([&] { engine.backward(y.mean() + module->aux); }),
              HasSubstr("output"));
  // The engine goes on.
  EXPECT_TRUE(train_once(engine, unit(input()).mean()).updated);
}

TEST_P(UnitGradients, AnAuxiliaryLossThatIsUsedLaterIsRefusedToo) {
  for (const int first_use : {1, 2, 4, 6}) {
    Engine engine(config());
    Aux module;
    Sharded unit = engine.shard(module, {.name = "unit"});
    for (int step = 0; step < first_use; ++step) {
      const Tensor y = unit(input());
      EXPECT_TRUE(train_once(engine, y.mean()).updated);
    }
    const Tensor y = unit(input());
    EXPECT_THAT(message_of<UsageError>([&] { engine.backward(y.mean() + 100 * module->aux); }),
                HasSubstr("output"));
  }
}

TEST_P(UnitGradients, AnAuxiliaryLossThatIsReturnedCounts) {
  Engine engine(config());
  WithAux plain;
  Sharded unit = engine.shard(WithAux(), {.name = "unit"});
  const auto [y, aux] = unit(input());
  const double norm = train_once(engine, y.mean() + aux).grad_norm;
  const auto [plain_y, plain_aux] = plain->forward(input());
  (plain_y.mean() + plain_aux).backward();
  EXPECT_NEAR(norm, norm_of(plain->parameters()), 1e-6 * norm);
}

TEST_P(UnitGradients, AutogradGradGivesInputsTheirsAndParametersNone) {
  Engine engine(config());
  torch::nn::Linear plain = linear(1);
  Sharded a = engine.shard(linear(1), {.name = "a"});
  Tensor x = input().requires_grad_(), plain_x = input().requires_grad_();
  const Tensor of_x = torch::autograd::grad({a(x).square().sum()}, {x})[0];
  EXPECT_TRUE(
      torch::equal(of_x, torch::autograd::grad({plain(plain_x).square().sum()}, {plain_x})[0]));
  const double norm = train_once(engine, a(input(2)).square().mean()).grad_norm;
  plain(input(2)).square().mean().backward();
  EXPECT_NEAR(norm, norm_of(plain->parameters()), 1e-6 * norm);
}

TEST_P(UnitGradients, ARetainedGraphCanBeGoneThroughAgain) {
  Engine engine(config());
  torch::nn::Linear plain = linear(1);
  Sharded a = engine.shard(linear(1), {.name = "a"});
  Tensor x = input().requires_grad_();
  const Tensor loss = a(x).square().sum();
  std::ignore = torch::autograd::grad({loss}, {x}, {}, /*retain_graph=*/true);
  const double norm = train_once(engine, loss).grad_norm;
  plain(input()).square().sum().backward();
  EXPECT_NEAR(norm, norm_of(plain->parameters()), 1e-6 * norm);
}

TEST_P(UnitGradients, AnotherBackwardThanTheEnginesGivesParametersNone) {
  Engine engine(config());
  torch::nn::Linear plain = linear(1);
  Sharded a = engine.shard(linear(1), {.name = "a"});
  Tensor x = input().requires_grad_();
  a(x).square().sum().backward();
  EXPECT_TRUE(x.grad().defined());
  const double norm = train_once(engine, a(input(2)).square().mean()).grad_norm;
  plain(input(2)).square().mean().backward();
  EXPECT_NEAR(norm, norm_of(plain->parameters()), 1e-6 * norm);
}

TEST_P(UnitGradients, OneEnginesBackwardThroughAnothersUnitsTrainsItsOwnAlone) {
  Engine engine_g(config()), engine_d(config());
  torch::nn::Linear plain_g = linear(1), plain_d = linear(2);
  Sharded g = engine_g.shard(linear(1), {.name = "g"});
  Sharded d = engine_d.shard(linear(2), {.name = "d"});
  const double norm_g = train_once(engine_g, d(g(input())).square().mean()).grad_norm;
  plain_d(plain_g(input())).square().mean().backward();
  EXPECT_NEAR(norm_g, norm_of(plain_g->parameters()), 1e-6 * norm_g);
  for (const Tensor& parameter : plain_d->parameters()) parameter.mutable_grad().reset();
  const double norm_d = train_once(engine_d, d(input(2)).square().mean()).grad_norm;
  plain_d(input(2)).square().mean().backward();
  EXPECT_NEAR(norm_d, norm_of(plain_d->parameters()), 1e-6 * norm_d);
}

TEST(Gradients, AFailedBackwardLeavesNothing) {
  Engine engine(on_nvme());
  torch::nn::Linear a = linear(1), b = linear(2), plain_a = linear(1), plain_b = linear(2);
  Sharded unit_a = engine.shard(a, {.name = "a"}), unit_b = engine.shard(b, {.name = "b"});
  int runs = 0;
  const auto fail_later = [&](const Tensor& x) {
    if (runs++ > 0) throw std::runtime_error("transient");
    return a->forward(x);
  };
  EXPECT_THROW(
      engine.backward(100 *
                      unit_b(unit_a.run(fail_later, Recompute::kConfig, input())).square().sum()),
      std::runtime_error);
  const double norm = train_once(engine, unit_b(unit_a(input(2))).square().mean()).grad_norm;
  plain_b(plain_a(input(2))).square().mean().backward();
  std::vector<Tensor> all = plain_a->parameters();
  for (const Tensor& parameter : plain_b->parameters()) all.push_back(parameter);
  EXPECT_NEAR(norm, norm_of(all), 1e-6 * norm);
}

TEST(Gradients, AFailedMicroBatchStartsItsStepAnewWhenItsGradientsWereMixedIn) {
  formats::DsConfig config = on_nvme();
  config.gradient_accumulation_steps = 2;
  Engine engine(config);
  torch::nn::Linear a = linear(1), plain = linear(1);
  Sharded unit = engine.shard(a, {.name = "a"});
  Sharded last = engine.shard(linear(2), {.name = "last"});
  engine.backward(last(unit(input())).sum());
  EXPECT_FALSE(engine.step().updated);
  int runs = 0;
  const auto fail_later = [&](const Tensor& x) {
    if (runs++ > 0) throw std::runtime_error("transient");
    return a->forward(x);
  };
  EXPECT_THROW(engine.backward(last(unit.run(fail_later, Recompute::kConfig, input())).sum()),
               std::runtime_error);
  EXPECT_TRUE(engine.gradient_norms().empty());
  engine.backward(last(unit(input())).sum());
  EXPECT_FALSE(engine.step().updated) << "the step starts with this one";
}

TEST(Gradients, ARefusedStepOrZeroGradChangesNothing) {
  Engine engine(on_nvme());
  torch::nn::Linear plain = linear(1);
  Sharded a = engine.shard(linear(1), {.name = "a"});
  engine.backward(a(input()).square().mean());
  a.with_unsharded([&] {
    EXPECT_THAT(message_of<UsageError>([&] { engine.step(); }), HasSubstr("in use"));
    EXPECT_THAT(message_of<UsageError>([&] { engine.zero_grad(); }), HasSubstr("in use"));
  });
  const StepReport report = engine.step();
  EXPECT_TRUE(report.updated);
  plain(input()).square().mean().backward();
  EXPECT_NEAR(report.grad_norm, norm_of(plain->parameters()), 1e-6 * report.grad_norm);
}

TEST(Gradients, ZeroGradForgetsTheStepUnderWay) {
  Engine engine(on_nvme());
  torch::nn::Linear plain = linear(1);
  Sharded a = engine.shard(linear(1), {.name = "a"});
  engine.backward(a(input()).square().sum());
  engine.zero_grad();
  EXPECT_THROW(engine.step(), UsageError);
  const double norm = train_once(engine, a(input(2)).square().mean()).grad_norm;
  plain(input(2)).square().mean().backward();
  EXPECT_NEAR(norm, norm_of(plain->parameters()), 1e-6 * norm);
}

TEST(Gradients, ASecondBackwardIsAUsageError) {
  Engine engine(on_nvme());
  Sharded a = engine.shard(linear(1), {.name = "a"});
  const Tensor loss = a(input()).sum();
  train_once(engine, loss);
  EXPECT_THAT(message_of<UsageError>([&] { engine.backward(loss); }), HasSubstr("second time"));
  EXPECT_TRUE(train_once(engine, a(input()).sum()).updated);
}

TEST(Gradients, AGradientOfAGradientIsRefused) {
  Engine engine(on_nvme());
  Sharded a = engine.shard(linear(1), {.name = "a"});
  Tensor x = input().requires_grad_();
  EXPECT_THAT(message_of<UsageError>([&] {
                std::ignore = torch::autograd::grad({a(x).square().sum()}, {x}, {},
                                                    /*retain_graph=*/true, /*create_graph=*/true);
              }),
              HasSubstr("create_graph"));
}

TEST(Gradients, ALossThatDependsOnNothingTrainedIsRefused) {
  Engine engine(on_nvme());
  Sharded a = engine.shard(linear(1), {.name = "a"});
  EXPECT_THAT(message_of<UsageError>([&] { engine.backward(a(input()).sum().detach()); }),
              HasSubstr("nothing that is trained"));
}

TEST(Gradients, ASparseGradientIsRefusedByName) {
  Engine engine(on_nvme());
  torch::nn::Embedding sparse(torch::nn::EmbeddingOptions(10, 8).sparse(true));
  Sharded unit = engine.shard(sparse, {.name = "table"});
  EXPECT_THAT(message_of<UsageError>([&] {
                engine.backward(unit(torch::tensor({1, 2})).sum());
              }),
              HasSubstr("table.weight"));
}

TEST(Gradients, AModuleThatIsRegisteredTwiceCountsOnce) {
  struct TwiceImpl : torch::nn::Module {
    TwiceImpl() : layer(register_module("layer", linear(1))) { register_module("same", layer); }
    Tensor forward(const Tensor& x) { return layer(x); }
    torch::nn::Linear layer;
  };
  Engine engine(on_nvme());
  torch::nn::Linear plain = linear(1);
  Sharded unit = engine.shard(std::make_shared<TwiceImpl>(), {.name = "unit"});
  const double norm = train_once(engine, unit(input()).square().mean()).grad_norm;
  plain(input()).square().mean().backward();
  EXPECT_NEAR(norm, norm_of(plain->parameters()), 1e-6 * norm);
  EXPECT_EQ(engine.plan_input().units[0].trainable_count, 576u + 64u);
}

TEST(Gradients, ABodyThatReturnsItsInputIsForgottenWithItsOutput) {
  Engine engine(on_nvme());
  Sharded a = engine.shard(linear(1), {.name = "a"});
  std::weak_ptr<int> alive;
  {
    auto token = std::make_shared<int>(1);
    alive = token;
    const Tensor y = a.run([token](const Tensor& x) { return x; }, Recompute::kConfig, input());
  }
  EXPECT_TRUE(alive.expired());
}

}  // namespace
}  // namespace strata::unit_gradients_test
