#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "strata/base/error.h"
#include "zero3/small_engine.h"

/// \file
/// Any number of tensors goes in and out of a unit, in whatever they are wrapped.

namespace strata {

struct Scored {
  torch::Tensor value, score;
  int count = 0;
};

template <class Visit>
void visit_tensors(Scored& scored, Visit&& visit) {
  visit(scored.value);
  visit(scored.score);
}

namespace {

using small::input;
using small::linear;
using small::norm_of;
using small::on_nvme;
using small::train_once;
using torch::Tensor;

using Tree = std::tuple<std::map<std::string, Tensor>, std::vector<Tensor>,
                        std::optional<std::pair<Tensor, double>>>;

struct ManyImpl : torch::nn::Module {
  ManyImpl() : layer(register_module("layer", linear(1))) {}
  Tree forward(std::vector<Tensor> list, const std::optional<Tensor>& mask, double factor) {
    Tensor y = layer(list[0]) + layer(list[1]) * factor;
    if (mask && mask->defined()) y = y * *mask;
    return {{{"a", y}, {"b", y.square()}}, {y.sum(), y.mean()}, std::pair(y.abs(), factor)};
  }
  torch::nn::Linear layer;
};
TORCH_MODULE(Many);

Tensor loss_of(const Tree& tree) {
  const auto& [map, list, pair] = tree;
  return map.at("a").mean() + map.at("b").mean() + list[0] + 2 * list[1] +
         pair->first.mean() * pair->second;
}

TEST(Sharded, TakesAndReturnsTreesOfTensors) {
  for (const bool recompute : {true, false}) {
    formats::DsConfig config = on_nvme();
    config.strata.recompute = recompute;
    Engine engine(config);
    Many plain;
    Sharded many = engine.shard(Many(), {.name = "many"});
    const Tensor mask = torch::rand({4, small::kWidth});
    Tensor x = input().requires_grad_(), plain_x = input().requires_grad_();
    const Tree tree = many(std::vector<Tensor>{x, input(2)}, std::optional<Tensor>(mask), 3.0);
    EXPECT_EQ(std::get<2>(tree)->second, 3.0);
    const double norm = train_once(engine, loss_of(tree)).grad_norm;
    loss_of(plain->forward({plain_x, input(2)}, mask, 3.0)).backward();
    EXPECT_NEAR(norm, norm_of(plain->parameters()), 1e-6 * norm);
    EXPECT_TRUE(torch::allclose(x.grad(), plain_x.grad()));
  }
}

TEST(Sharded, UndefinedTensorsPassInBothDirections) {
  for (const bool recompute : {true, false}) {
    formats::DsConfig config = on_nvme();
    config.strata.recompute = recompute;
    Engine engine(config);
    torch::nn::Linear module = linear(1);
    Sharded unit = engine.shard(module, {.name = "unit"});
    const auto [nothing, y] = unit.run(
        [&](const Tensor& x, const Tensor& mask) {
          return std::pair(mask, mask.defined() ? x : module->forward(x));
        },
        Recompute::kConfig, input(), Tensor());
    EXPECT_FALSE(nothing.defined());
    EXPECT_TRUE(train_once(engine, y.sum()).updated);
  }
}

TEST(Sharded, ATypeOfTheProgramsOwnTakesPart) {
  Engine engine(on_nvme());
  torch::nn::Linear module = linear(1), plain = linear(1);
  Sharded unit = engine.shard(module, {.name = "unit"});
  const Scored scored = unit.run(
      [&](const Tensor& x) {
        const Tensor y = module->forward(x);
        return Scored{y, y.square().mean(), 7};
      },
      Recompute::kConfig, input());
  EXPECT_EQ(scored.count, 7);
  const double norm = train_once(engine, scored.value.mean() + scored.score).grad_norm;
  const Tensor y = plain(input());
  (y.mean() + y.square().mean()).backward();
  EXPECT_NEAR(norm, norm_of(plain->parameters()), 1e-6 * norm);
}

TEST(Sharded, AnLstmReturnsItsStateAndTakesIt) {
  Engine engine(on_nvme());
  torch::manual_seed(1);
  torch::nn::LSTM module(small::kWidth, 8);
  torch::manual_seed(1);
  torch::nn::LSTM plain(small::kWidth, 8);
  Sharded lstm = engine.shard(module, {.name = "lstm"});
  const auto run = [](auto& each) {
    auto [y, state] = each(input().unsqueeze(1));
    auto [z, last] = each->forward(input(2).unsqueeze(1), state);
    return y.sum() + z.square().sum() + std::get<1>(last).mean();
  };
  auto [y, state] = lstm(input().unsqueeze(1));
  auto [z, last] = lstm(input(2).unsqueeze(1), torch::optional<std::tuple<Tensor, Tensor>>(state));
  const double norm =
      train_once(engine, y.sum() + z.square().sum() + std::get<1>(last).mean()).grad_norm;
  run(plain).backward();
  EXPECT_NEAR(norm, norm_of(plain->parameters()), 1e-5 * norm);
}

TEST(Sharded, IsEmptyUntilAssigned) {
  Sharded<torch::nn::Linear> unit;
  EXPECT_FALSE(static_cast<bool>(unit));
  EXPECT_THROW(std::ignore = unit(input()), UsageError);
  EXPECT_THROW(std::ignore = unit->weight, UsageError);
  Engine engine(on_nvme());
  unit = engine.shard(linear(1), {.name = "unit"});
  EXPECT_TRUE(static_cast<bool>(unit));
  EXPECT_TRUE(train_once(engine, unit(input()).sum()).updated);
}

TEST(Sharded, TheModuleIsReachedThroughAConstHandle) {
  Engine engine(on_nvme());
  const Sharded unit = engine.shard(torch::nn::Sequential(linear(1)), {.name = "unit"});
  unit->eval();
  EXPECT_FALSE(unit->is_training());
}

}  // namespace
}  // namespace strata
