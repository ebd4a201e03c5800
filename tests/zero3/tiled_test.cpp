#include "strata/zero3/tiled.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <exception>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "strata/base/error.h"
#include "strata/zero3/shared_input.h"
#include "zero3/small_engine.h"
#include "zero3/thread_world.h"

/// \file
/// A layer in tiles is the layer: its numbers, its names, its initial values; and it trains where
/// the whole has no room.

namespace strata::tiled_test {
namespace {

using small::expect_same;
using small::input;
using small::message_of;
using testing::HasSubstr;
using torch::Tensor;
using Tensors = UnitSequence::Tensors;

constexpr std::int64_t kWidth = small::kWidth;
constexpr std::int64_t kRows = 100;  // of a tile
constexpr std::int64_t kOut = 4 * kRows;
constexpr std::int64_t kTokens = 5 * kRows;
constexpr std::uint64_t kElementsMax = 110 * kWidth;

/// SGD at rate 1 on nvme: a step takes the gradient from the master. Decay shows which parameters
/// took part.
formats::DsConfig config(Precision precision, bool recompute = true) {
  formats::DsConfig config = small::on_nvme(precision);
  config.optimizer = {.type = formats::OptimizerType::kSgd, .lr = 1.0, .weight_decay = 0.125};
  config.strata.recompute = recompute;
  return config;
}

torch::nn::Linear whole_linear() { return small::linear(5, kWidth, kOut); }

torch::nn::Embedding whole_embedding(torch::nn::EmbeddingOptions options = {kTokens, kWidth}) {
  torch::manual_seed(6);
  return torch::nn::Embedding(std::move(options));
}

Tensor tokens(std::uint64_t seed = 1) {
  torch::manual_seed(seed);
  return torch::randint(kTokens, {3, 7}, torch::kInt64);
}

/// A weight for each output, so that a gradient differs from element to element.
Tensor weighted_sum(const Tensor& y) {
  torch::manual_seed(8);
  return (y.to(torch::kFloat32) * torch::randn(y.sizes())).sum();
}

/// The masters of the tiles of a layer as those of the whole, by the whole's names.
std::map<std::string, Tensor> whole_masters(Engine& engine) {
  std::map<std::string, std::vector<Tensor>> pieces;
  engine.visit_masters([&](const std::string& name, const Tensor& value) {
    const bool is_tile = name.starts_with("tile_");
    pieces[is_tile ? name.substr(name.find('.') + 1) : name].push_back(value.clone());
  });
  std::map<std::string, Tensor> whole;
  for (const auto& [name, values] : pieces) whole[name] = torch::cat(values, 0);
  return whole;
}

void expect_same_masters(Engine& left, Engine& right) {
  const std::map<std::string, Tensor> expected = whole_masters(right);
  const std::map<std::string, Tensor> masters = whole_masters(left);
  ASSERT_EQ(masters.size(), expected.size());
  for (const auto& [name, value] : masters) {
    EXPECT_TRUE(torch::equal(value, expected.at(name))) << name;
  }
}

struct Case {
  Precision precision;
  bool recompute;
};

class Tiled : public testing::TestWithParam<Case> {
 protected:
  [[nodiscard]] static formats::DsConfig given() {
    return config(GetParam().precision, GetParam().recompute);
  }
  /// The format of computation.
  [[nodiscard]] static torch::ScalarType format() {
    return GetParam().precision == Precision::kBf16 ? torch::kBFloat16 : torch::kFloat32;
  }
};

// ---- numbers -----------------------------------------------------------------------------------

TEST_P(Tiled, LinearLayersHaveTheOutputsAndTheGradientsOfTheWholeLayersParts) {
  Engine engine(given());
  TiledLinear layer(engine, whole_linear(), {.name = "head", .elements_max = kElementsMax});
  ASSERT_EQ(layer.tiles().size(), 4u);
  Tensor x = input().to(format()).requires_grad_();
  const Tensor y = layer(x);
  small::train_once(engine, weighted_sum(y));

  // Plain LibTorch, part by part, the gradient of x added in fp32 from the last one on.
  const torch::nn::Linear whole = whole_linear();
  const Tensor taken = x.detach().requires_grad_();
  std::vector<Tensor> weights, biases, outputs;
  for (std::int64_t row = 0; row < kOut; row += kRows) {
    weights.push_back(whole->weight.detach().narrow(0, row, kRows).to(format()).requires_grad_());
    biases.push_back(whole->bias.detach().narrow(0, row, kRows).to(format()).requires_grad_());
    outputs.push_back(torch::linear(taken, weights.back(), biases.back()));
  }
  const Tensor expected = torch::cat(outputs, -1);
  EXPECT_TRUE(torch::equal(y, expected));
  const Tensor of_outputs =
      torch::autograd::grad({weighted_sum(expected)}, {expected}, {}, /*retain_graph=*/true)[0];
  Tensor sum;
  std::map<std::string, Tensor> masters;
  for (std::size_t tile = outputs.size(); tile-- > 0;) {
    const Tensor from = of_outputs.narrow(-1, static_cast<std::int64_t>(tile) * kRows, kRows);
    const auto gradients = torch::autograd::grad(
        {outputs[tile]}, {weights[tile], biases[tile], taken}, {from}, /*retain_graph=*/true);
    const std::string name = "tile_" + std::to_string(tile) + ".head";
    masters[name + ".weight"] = gradients[0].to(torch::kFloat32);
    masters[name + ".bias"] = gradients[1].to(torch::kFloat32);
    sum = sum.defined() ? sum + gradients[2].to(torch::kFloat32) : gradients[2].to(torch::kFloat32);
  }
  EXPECT_TRUE(torch::equal(x.grad(), sum.to(format())));
  engine.visit_masters([&](const std::string& name, const Tensor& value) {
    const std::int64_t row = kRows * (name[5] - '0');
    const Tensor& before = name.ends_with("bias") ? whole->bias : whole->weight;
    const Tensor start = before.detach().narrow(0, row, kRows);
    EXPECT_TRUE(torch::allclose(value, start - masters.at(name) - 0.125 * start, 1e-5, 1e-6))
        << name;
  });
}

TEST_P(Tiled, LinearLayersDifferFromTheExactOnesByTheRoundingsThatAreStated) {
  Engine engine(given());
  TiledLinear layer(engine, whole_linear(), {.elements_max = kElementsMax});
  Tensor x = input().to(format()).requires_grad_();
  const Tensor y = layer(x);
  engine.backward(weighted_sum(y));

  const bool is_narrow = GetParam().precision == Precision::kBf16;
  const double u = is_narrow ? 0x1p-8 : 0x1p-24, of_products = is_narrow ? 0.0 : 1e-6;
  const auto rounded = [&](const Tensor& value) { return value.to(format()).to(torch::kFloat64); };
  const torch::nn::Linear whole = whole_linear();
  const Tensor w = rounded(whole->weight.detach()), b = rounded(whole->bias.detach());
  const Tensor exact = torch::linear(rounded(x.detach()), w, b);
  const Tensor magnitude = torch::linear(x.detach().to(torch::kFloat64).abs(), w.abs(), b.abs());
  const auto excess = [](const Tensor& actual, const Tensor& value, const Tensor& allowed) {
    return ((actual.to(torch::kFloat64) - value).abs() / allowed).max().item<double>();
  };
  EXPECT_LE(excess(y, exact, 1.01 * u * exact.abs() + of_products * magnitude + 1e-6), 1.0);

  torch::manual_seed(8);
  const Tensor of_y = rounded(torch::randn(y.sizes()));  // of weighted_sum
  Tensor shares = torch::zeros_like(x, torch::kFloat64);
  for (std::int64_t row = 0; row < kOut; row += kRows) {
    shares += torch::mm(of_y.narrow(1, row, kRows), w.narrow(0, row, kRows)).abs();
  }
  const Tensor of_x = torch::mm(of_y, w);
  const Tensor bound =
      1.01 * u * (shares + of_x.abs()) + of_products * torch::mm(of_y.abs(), w.abs());
  EXPECT_LE(excess(x.grad(), of_x, bound), 1.0);
}

TEST_P(Tiled, EmbeddingsHaveTheBitsOfTheWholeTable) {
  const auto options = torch::nn::EmbeddingOptions(kTokens, kWidth).padding_idx(13);
  Engine engine(given()), reference(given());
  TiledEmbedding table(engine, whole_embedding(options),
                       {.name = "wte", .elements_max = kElementsMax});
  auto whole = reference.shard(whole_embedding(options), {.name = "wte"});
  ASSERT_EQ(table.tiles().size(), 5u);
  std::vector<Tensor> batches = {tokens(1), torch::tensor({13, 13, 12, 0, 499, 12}),
                                 torch::tensor({3, 4}), tokens(2)};  // of all tiles; of one
  for (const Tensor& batch : batches) {
    const Tensor y = table(batch), expected = whole(batch);
    EXPECT_TRUE(torch::equal(y, expected));
    EXPECT_TRUE(small::train_once(engine, weighted_sum(y)).updated);
    small::train_once(reference, weighted_sum(expected));
    expect_same_masters(engine, reference);
  }
}

TEST_P(Tiled, AnEmbeddingAndItsTiedHeadTrainAsTheWholeOnes) {
  Engine engine(given()), reference(given());
  TiledEmbedding table(engine, whole_embedding(), {.name = "wte", .elements_max = kElementsMax});
  auto whole = reference.shard(whole_embedding(), {.name = "wte"});
  const Tensor y = table.project(torch::tanh(table(tokens())));
  const Tensor expected =
      whole.run([&](const Tensor& x) { return torch::linear(x, whole->weight); },
                Recompute::kConfig, torch::tanh(whole(tokens())));
  EXPECT_TRUE(torch::allclose(y, expected, 1e-6, 1e-6));
  small::train_once(engine, weighted_sum(y));
  small::train_once(reference, weighted_sum(expected));
  const double allowed = GetParam().precision == Precision::kBf16 ? 0.5 : 1e-3;
  EXPECT_TRUE(torch::allclose(whole_masters(engine).at("wte.weight"),
                              whole_masters(reference).at("wte.weight"), 0.0, allowed));
}

INSTANTIATE_TEST_SUITE_P(All, Tiled,
                         testing::Values(Case{Precision::kFp32, true},
                                         Case{Precision::kFp32, false},
                                         Case{Precision::kBf16, true},
                                         Case{Precision::kBf16, false}),
                         [](const auto& tested) {
                           return std::string(name_of(tested.param.precision)) +
                                  (tested.param.recompute ? "_recomputed" : "_kept");
                         });

TEST(SharedInput, AddsGradientsInFp32AndRoundsOnce) {
  Tensor x = torch::ones({1}, torch::kBFloat16).requires_grad_();
  const SharedInput shared(x);
  const std::vector<double> gradients = {1.0, 0x1p-9, 0x1p-9, 0x1p-9};  // each of the small is lost
  Tensor loss = torch::zeros({1}, torch::kBFloat16);
  for (const double gradient : gradients) loss = loss + shared.take() * gradient;
  loss.backward();
  EXPECT_EQ(x.grad().item<float>(), 1.0F + 0x1p-7F);
}

TEST(SharedInput, CanBeGoneThroughTwiceAndAfterABackwardThatFailed) {
  Tensor x = torch::ones({1}).requires_grad_();
  const SharedInput shared(x);
  const Tensor first = shared.take(), second = shared.take();
  const Tensor sum = first + 3 * second;
  bool fails = true;
  first.register_hook([&](const Tensor&) -> Tensor {
    if (fails) throw std::runtime_error("as the test asked");
    return {};
  });
  const auto gradient = [&] {
    return torch::autograd::grad({sum}, {x}, {}, /*retain_graph=*/true)[0].item<float>();
  };
  EXPECT_THROW((void)gradient(), std::runtime_error);
  fails = false;
  EXPECT_EQ(gradient(), 4.0F);
  EXPECT_EQ(gradient(), 4.0F);
}

// ---- memory ------------------------------------------------------------------------------------

/// A model with a layer that takes most of the room, before and behind a small one.
struct Model {
  explicit Model(const formats::DsConfig& config) : engine(config) {
    table.emplace(engine, whole_embedding(),
                  TileOptions{.name = "wte", .elements_max = kElementsMax});
    head.emplace(engine, whole_linear(), TileOptions{.name = "head", .elements_max = kElementsMax});
  }
  Tensor loss(const Tensor& of) { return weighted_sum((*head)(torch::tanh((*table)(of)))); }

  Engine engine;
  std::optional<TiledEmbedding> table;
  std::optional<TiledLinear> head;
};

TEST(TiledLayers, LargerThanTheDeviceBudgetTrainToTheBitsOfOneThatFits) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    formats::DsConfig crowded = config(precision);
    crowded.strata.device_budget_bytes = [&] {
      Engine engine(crowded);
      const TiledLinear one(engine, whole_linear(), {.elements_max = kElementsMax});
      return zero3::smallest_budgets(engine.plan_input()).device;
    }();
    Engine whole(crowded);
    const auto table = whole.shard(whole_embedding());
    EXPECT_THAT(message_of<BudgetError>([&] { whole.prepare(); }),
                testing::AllOf(HasSubstr("largest unit"), HasSubstr("tiles")));

    Model small(crowded), roomy(config(precision));
    for (int step = 0; step < 3; ++step) {
      for (Model* model : {&small, &roomy}) {
        small::train_once(model->engine, model->loss(tokens(static_cast<std::uint64_t>(step))));
      }
    }
    expect_same_masters(small.engine, roomy.engine);
    EXPECT_LE(small.engine.use(tiering::Tier::kDevice).peak, *crowded.strata.device_budget_bytes);
  }
}

TEST(TiledLayers, InABatchHaveTheBitsOfTheLoopAndAreReadOncePerDirection) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    formats::DsConfig accumulating = config(precision);
    accumulating.gradient_accumulation_steps = 3;
    const auto make = [&](Engine& engine) {
      auto first = engine.shard(small::linear(1), {.name = "first"});
      TiledLinear head(engine, whole_linear(), {.name = "head", .elements_max = kElementsMax});
      return std::pair(first, head);
    };
    Engine batches(accumulating), loop(accumulating);
    const auto [first, head] = make(batches);
    auto [loop_first, loop_head] = make(loop);
    UnitSequence model;
    model.add(first);
    head.add_to(model);
    model.add_function(
        [](const Tensors& x, const Tensors&) { return weighted_sum(torch::cat(x, -1)); });
    std::vector<Tensors> micro_batches;
    for (std::uint64_t i = 0; i < 3; ++i) micro_batches.push_back({input(i)});
    for (int step = 0; step < 3; ++step) {
      const BatchReport report = batches.train_batch(model, micro_batches);
      EXPECT_TRUE(report.step.updated);
      for (std::size_t i = 0; i < micro_batches.size(); ++i) {
        const Tensor loss = weighted_sum(loop_head(loop_first(micro_batches[i][0])));
        EXPECT_EQ(report.losses[i], loss.item<double>());
        small::train_once(loop, loss);
      }
    }
    expect_same_masters(batches, loop);
  }
}

TEST(TiledLayers, InABatchHaveTheSameBitsWhereWhatTheyTakeIsAway) {
  constexpr std::int64_t kManyRows = 64;  // so that an activation is worth a copy
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    formats::DsConfig kept = config(precision);
    kept.gradient_accumulation_steps = 2;
    formats::DsConfig away = kept;
    away.strata.activations_host_bytes = 1u << 20;
    Engine with_values(kept), without_values(away);
    for (Engine* engine : {&with_values, &without_values}) {
      const auto first = engine->shard(small::linear(1), {.name = "first"});
      const TiledLinear wide(*engine, whole_linear(),
                             {.name = "wide", .elements_max = kElementsMax});
      const auto last = engine->shard(small::linear(2, kOut, kWidth), {.name = "last"});
      UnitSequence model;
      model.add(first);
      wide.add_to(model);
      // The graphs of both functions keep what they took.
      model.add_function([](const Tensors& x, const Tensors&) {
        return torch::tanh(torch::cat({x[0] * x[1], x[1] * x[2], x[2] * x[3], x[3] * x[0]}, -1));
      });
      model.add(last);
      model.add_function(
          [](const Tensors& x, const Tensors&) { return weighted_sum(torch::tanh(x[0] * x[0])); });
      torch::manual_seed(4);
      const std::vector<Tensors> micro_batches = {{torch::randn({kManyRows, kWidth})},
                                                  {torch::randn({kManyRows, kWidth})}};
      for (int step = 0; step < 2; ++step) {
        EXPECT_TRUE(engine->train_batch(model, micro_batches).step.updated);
      }
    }
    expect_same_masters(without_values, with_values);
  }
}

TEST(TiledLayers, CannotBeTheFirstNorTheLastPartOfASequenceByTheirSide) {
  Engine engine(config(Precision::kFp32));
  const TiledLinear head(engine, whole_linear(), {.elements_max = kElementsMax});
  UnitSequence model;
  const auto forward = [](zero3::LinearTile& tile, const Tensors& x, const Tensors&) {
    return tile.forward(x[0]);
  };
  EXPECT_THROW(model.add_beside(head.tiles()[0], forward), UsageError);
  head.add_to(model);
  const std::vector<Tensors> batch = {{input()}};
  EXPECT_THAT(message_of<UsageError>([&] { (void)engine.train_batch(model, batch); }),
              HasSubstr("last part stands beside another"));
}

TEST(TiledLayers, OfRanksWhoseTokensFallIntoOtherTilesTrainAsTheWholeLayer) {
  const int threads = torch::get_num_threads();
  torch::set_num_threads(1);
  const auto train = [](auto&& shard) {
    std::vector<torch::nn::Embedding> layers = {whole_embedding(), whole_embedding()};
    std::vector<std::map<std::string, Tensor>> masters(2);
    const auto thrown = zero3::run_ranks({.size = 2}, [&](zero3::Ranks& ranks) {
      const auto rank = static_cast<std::size_t>(ranks.rank());
      formats::DsConfig of_ranks = config(Precision::kBf16);
      of_ranks.zero.offload_param.device = formats::OffloadDevice::kCpu;
      of_ranks.zero.offload_optimizer.device = formats::OffloadDevice::kCpu;
      Engine engine(of_ranks, EnginePlace{.ranks = &ranks});
      auto table = shard(engine, layers[rank]);
      const Tensor own = torch::tensor(rank == 0 ? std::vector<std::int64_t>{1, 3, 3}
                                                 : std::vector<std::int64_t>{499, 400, 401});
      for (int step = 0; step < 2; ++step) {
        small::train_once(engine, table(own).to(torch::kFloat32).square().sum());
      }
      masters[rank] = whole_masters(engine);
    });
    for (const std::exception_ptr& each : thrown) {
      if (each) std::rethrow_exception(each);
    }
    return masters;
  };
  const auto tiles = train([](Engine& engine, torch::nn::Embedding layer) {
    return TiledEmbedding(engine, std::move(layer), {.name = "wte", .elements_max = kElementsMax});
  });
  const auto whole = train([](Engine& engine, torch::nn::Embedding layer) {
    return engine.shard(std::move(layer), {.name = "wte"});
  });
  for (const std::size_t rank : {0, 1}) {
    EXPECT_TRUE(torch::equal(tiles[rank].at("wte.weight"), whole[rank].at("wte.weight"))) << rank;
  }
  torch::set_num_threads(threads);
}

// ---- names and values --------------------------------------------------------------------------

TEST(TiledLayers, AreFilledByAnInitializerThatIsAskedForTheWholeOnce) {
  Engine engine(config(Precision::kFp32));
  const torch::nn::Linear layer = whole_linear();
  const Tensor weight = layer->weight.detach(), bias = layer->bias.detach();
  std::vector<std::string> asked;
  const TiledLinear tiled(engine, layer,
                          {.name = "model.head",
                           .elements_max = kElementsMax,
                           .initializer = [&](const std::string& name, Tensor& value) {
                             asked.push_back(name);
                             value.copy_(name.ends_with("bias") ? bias : weight);
                           }});
  EXPECT_THAT(asked, testing::ElementsAre("model.head.weight", "model.head.bias"));
  const std::map<std::string, Tensor> masters = whole_masters(engine);
  EXPECT_TRUE(torch::equal(masters.at("model.head.weight"), weight));
  EXPECT_TRUE(torch::equal(masters.at("model.head.bias"), bias));
}

TEST(TiledLayers, AreRefusedWhereTheInitializerLeavesValuesOut) {
  Engine engine(config(Precision::kFp32));
  const torch::nn::LinearOptions layer(kWidth, kOut);
  const TileOptions options{
      .elements_max = kElementsMax,
      .initializer = [](const std::string&, Tensor& value) { value.slice(0, 1).zero_(); }};
  EXPECT_THROW(TiledLinear(engine, layer, options), DataError);
  EXPECT_THROW(TiledLinear(engine, layer, {.elements_max = kElementsMax}), UsageError);
}

TEST(TiledLayers, AreMatchedByThePatternsOfTheWhole) {
  for (const char* pattern : {"head.weight", "model.head.*", "*.weight"}) {
    formats::DsConfig with_pattern = config(Precision::kFp32);
    with_pattern.strata.no_decay = {pattern};
    Engine engine(with_pattern);
    TiledLinear head(engine, whole_linear(), {.name = "model.head", .elements_max = kElementsMax});
    small::train_once(engine, head(torch::zeros({1, kWidth})).sum());
    EXPECT_TRUE(torch::equal(whole_masters(engine).at("model.head.weight"),
                             whole_linear()->weight.detach()))
        << pattern;
  }
}

TEST(TiledLayers, StayFrozenWhereTheWholeIs) {
  Engine engine(config(Precision::kFp32));
  torch::nn::Linear frozen = whole_linear();
  frozen->weight.set_requires_grad(false);
  TiledLinear head(engine, frozen, {.name = "head", .elements_max = kElementsMax});
  small::train_once(engine, weighted_sum(head(input())));
  const auto masters = whole_masters(engine);
  EXPECT_TRUE(torch::equal(masters.at("head.weight"), frozen->weight));
  EXPECT_FALSE(torch::equal(masters.at("head.bias"), frozen->bias));
}

TEST(TiledLayers, RefuseWhatCannotBeCutAndTokensThatNoRowIsFor) {
  Engine engine(config(Precision::kFp32));
  const auto options = [] { return torch::nn::EmbeddingOptions(kTokens, kWidth); };
  for (const auto& refused :
       {options().max_norm(1.0), options().scale_grad_by_freq(true), options().sparse(true)}) {
    EXPECT_THAT(message_of<UsageError>([&] {
                  TiledEmbedding(engine, whole_embedding(refused), {.elements_max = kElementsMax});
                }),
                HasSubstr("cannot be cut"));
  }
  EXPECT_THROW(TiledLinear(engine, whole_linear(), {}), UsageError);
  TiledEmbedding table(engine, whole_embedding(), {.elements_max = kElementsMax});
  for (const std::int64_t beyond : {std::int64_t{-1}, kTokens}) {
    EXPECT_ANY_THROW((void)table(torch::tensor({3, beyond})));
  }
  EXPECT_EQ(table(tokens()).sizes(), (std::vector<std::int64_t>{3, 7, kWidth}));
}

}  // namespace
}  // namespace strata::tiled_test
