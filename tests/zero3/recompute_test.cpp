#include <ATen/CPUGeneratorImpl.h>
#include <ATen/autocast_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "strata/base/error.h"
#include "zero3/small_engine.h"

/// \file
/// Recomputation is the first forward again: what a body sees beside its inputs is put back, and
/// what cannot be is found.

namespace strata::recompute_test {
namespace {

using small::input;
using small::linear;
using small::message_of;
using small::norm_of;
using small::on_nvme;
using small::train_once;
using testing::HasSubstr;
using torch::Tensor;

TEST(Recompute, BatchNormCountsEveryBatchOnce) {
  Engine engine(on_nvme());
  torch::nn::BatchNorm1d norm(small::kWidth), plain(small::kWidth);
  Sharded unit = engine.shard(norm, {.name = "norm"});
  for (int step = 0; step < 3; ++step) {
    const Tensor x = input() + 3 + step;
    const double ours = train_once(engine, unit(x).square().mean()).grad_norm;
    plain->zero_grad();
    plain(x).square().mean().backward();
    if (step == 0) {
      EXPECT_NEAR(ours, norm_of(plain->parameters()), 1e-6);
    }
  }
  EXPECT_TRUE(torch::equal(norm->running_mean, plain->running_mean));
  EXPECT_TRUE(torch::equal(norm->running_var, plain->running_var));
  EXPECT_EQ(norm->num_batches_tracked.item<std::int64_t>(), 3);
}

struct CountingImpl : torch::nn::Module {
  CountingImpl()
      : layer(register_module("layer", linear(1))),
        scale(register_buffer("scale", torch::ones({1}))) {}
  Tensor forward(const Tensor& x) {
    scale.mul_(2);
    return layer(x) * scale;
  }
  torch::nn::Linear layer;
  Tensor scale;
};
TORCH_MODULE(Counting);

TEST(Recompute, ABufferThatForwardChangesIsThatOfItsForward) {
  Engine engine(on_nvme());
  Counting module, plain;
  Sharded unit = engine.shard(module, {.name = "unit"});
  // Two forwards before the first backward.
  const Tensor first = unit(input()).square().sum(), second = unit(input(2)).square().sum();
  const double norm = train_once(engine, first + second).grad_norm;
  Counting other;
  (plain(input()).square().sum()).backward();
  (plain(input(2)).square().sum()).backward();
  EXPECT_NEAR(norm, norm_of(plain->parameters()), 1e-5 * norm);
  EXPECT_EQ(module->scale.item<float>(), 4.0f);
}

struct SharedBuffersImpl : torch::nn::Module {
  SharedBuffersImpl() : layer(register_module("layer", linear(1))) {
    all = register_buffer("all", torch::ones({small::kWidth}));
    first = register_buffer("first", all.slice(0, 0, 1));
    sparse = register_buffer("sparse", torch::eye(small::kWidth).to_sparse());
  }
  Tensor forward(const Tensor& x) {
    first.mul_(2);
    return torch::matmul(sparse, layer(x * all).t());
  }
  torch::nn::Linear layer;
  Tensor all, first, sparse;
};
TORCH_MODULE(SharedBuffers);

TEST(Recompute, BuffersMayShareMemoryAndBeSparse) {
  Engine engine(on_nvme());
  SharedBuffers module, plain;
  Sharded unit = engine.shard(module, {.name = "unit"});
  for (int step = 0; step < 3; ++step) {
    const double norm = train_once(engine, unit(input()).square().mean()).grad_norm;
    plain->zero_grad();
    plain(input()).square().mean().backward();
    if (step == 0) {
      EXPECT_NEAR(norm, norm_of(plain->parameters()), 1e-5 * norm);
    }
    EXPECT_TRUE(torch::equal(module->all, plain->all));
  }
}

TEST(Recompute, AnOutputThatIsUndefinedTheSecondTimeIsRefused) {
  Engine engine(on_nvme());
  torch::nn::Linear module = linear(1);
  Sharded unit = engine.shard(module, {.name = "unit"});
  int runs = 0;
  const auto [y, z] = unit.run(
      [&](const Tensor& x) {
        const Tensor each = module->forward(x);
        return std::pair(each, runs++ == 0 ? each * 2 : Tensor());
      },
      Recompute::kConfig, input());
  EXPECT_THAT(message_of<UsageError>([&] { engine.backward(y.sum() + z.sum()); }),
              HasSubstr("other tensors"));
}

TEST(Recompute, AutocastIsAsItWasInForward) {
  Engine engine(on_nvme());
  torch::nn::Linear plain = linear(1);
  Sharded unit = engine.shard(linear(1), {.name = "unit"});
  const auto with_autocast = [](const auto& function) {
    at::autocast::set_autocast_enabled(at::kCPU, true);
    const Tensor y = function();
    at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(at::kCPU, false);
    return y;
  };
  for (int step = 0; step < 2; ++step) {
    const Tensor y = with_autocast([&] { return unit(input()); });
    EXPECT_EQ(y.scalar_type(), torch::kBFloat16);
    const double norm = train_once(engine, y.to(torch::kFloat32).square().mean()).grad_norm;
    if (step > 0) break;
    const Tensor plain_y = with_autocast([&] { return plain(input()); });
    plain_y.to(torch::kFloat32).square().mean().backward();
    EXPECT_NEAR(norm, norm_of(plain->parameters()), 1e-6 * norm);
  }
}

struct NoisyImpl : torch::nn::Module {
  explicit NoisyImpl(at::Generator source)
      : layer(register_module("layer", linear(1))), generator(std::move(source)) {}
  Tensor forward(const Tensor& x) {
    return layer(x * torch::rand(x.sizes(), generator, torch::kFloat32));
  }
  torch::nn::Linear layer;
  at::Generator generator;
};
TORCH_MODULE(Noisy);

TEST(Recompute, ANamedGeneratorDrawsTheSameNumbersAgain) {
  auto ours = at::make_generator<at::CPUGeneratorImpl>(7);
  auto theirs = at::make_generator<at::CPUGeneratorImpl>(7);
  Engine engine(on_nvme());
  Noisy plain(theirs);
  Sharded unit = engine.shard(Noisy(ours), {.name = "unit", .generators = {ours}});
  for (int step = 0; step < 2; ++step) {
    const double norm = train_once(engine, unit(input()).square().mean()).grad_norm;
    plain->zero_grad();
    plain(input()).square().mean().backward();
    if (step == 0) {
      EXPECT_NEAR(norm, norm_of(plain->parameters()), 1e-6 * norm);
    }
  }
  EXPECT_TRUE(torch::equal(torch::rand({3}, ours, torch::kFloat32),
                           torch::rand({3}, theirs, torch::kFloat32)));
}

TEST(Recompute, AGeneratorThatNobodyNamedIsFound) {
  Engine engine(on_nvme());
  auto generator = at::make_generator<at::CPUGeneratorImpl>(7);
  Sharded unit = engine.shard(Noisy(generator), {.name = "unit"});
  EXPECT_THAT(message_of<UsageError>([&] { engine.backward(unit(input()).square().mean()); }),
              testing::AllOf(HasSubstr("'unit'"), HasSubstr("ShardOptions::generators")));
}

TEST(Recompute, AnInputThatTheCallerChangesIsRefused) {
  Engine engine(on_nvme());
  Sharded unit = engine.shard(linear(1), {.name = "unit"});
  Tensor x = input();
  const Tensor loss = unit(x).sum();
  x.add_(1);
  EXPECT_THAT(message_of<UsageError>([&] { engine.backward(loss); }),
              HasSubstr("between its forward and its backward"));
}

struct InPlaceFirstImpl : torch::nn::Module {
  InPlaceFirstImpl() : layer(register_module("layer", linear(1))) {}
  Tensor forward(Tensor x) { return layer(x.relu_()); }
  torch::nn::Linear layer;
};
TORCH_MODULE(InPlaceFirst);

TEST(Recompute, ABodyThatChangesItsInputIsRefusedByName) {
  for (const bool recompute : {true, false}) {
    for (const bool leaf : {true, false}) {
      formats::DsConfig config = on_nvme();
      config.strata.recompute = recompute;
      Engine engine(config);
      Sharded first = engine.shard(linear(2), {.name = "first"});
      Sharded unit = engine.shard(InPlaceFirst(), {.name = "unit"});
      const auto train = [&] {
        engine.backward(unit(leaf ? first(input()) : first(input()) * 1).sum());
      };
      EXPECT_THAT(message_of<UsageError>(train),
                  testing::AllOf(HasSubstr("'unit'"), HasSubstr("in place")));
    }
  }
}

TEST(Recompute, IsChosenPerUnit) {
  const auto runs_of = [](Recompute recompute, bool config_says) {
    formats::DsConfig config = on_nvme();
    config.strata.recompute = config_says;
    Engine engine(config);
    torch::nn::Linear module = linear(1);
    Sharded unit = engine.shard(module, {.name = "unit", .recompute = recompute});
    int runs = 0;
    train_once(engine, unit.run(
                               [&](const Tensor& x) {
                                 ++runs;
                                 return module->forward(x);
                               },
                               Recompute::kConfig, input())
                           .sum());
    return runs;
  };
  EXPECT_EQ(runs_of(Recompute::kConfig, true), 2);
  EXPECT_EQ(runs_of(Recompute::kConfig, false), 1);
  EXPECT_EQ(runs_of(Recompute::kNever, true), 1);
  EXPECT_EQ(runs_of(Recompute::kAlways, false), 2);
}

TEST(Recompute, AFrozenBottomRunsOnce) {
  Engine engine(on_nvme());
  torch::nn::Linear frozen = linear(1), top = linear(2);
  for (const Tensor& parameter : frozen->parameters()) parameter.set_requires_grad(false);
  Sharded bottom = engine.shard(frozen, {.name = "bottom"});
  Sharded head = engine.shard(top, {.name = "head"});
  int runs = 0;
  const Tensor hidden = bottom.run(
      [&](const Tensor& x) {
        ++runs;
        return frozen->forward(x);
      },
      Recompute::kConfig, input());
  EXPECT_FALSE(hidden.requires_grad());
  train_once(engine, head(hidden).sum());
  EXPECT_EQ(runs, 1);
}

}  // namespace
}  // namespace strata::recompute_test
