#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/zero3/tiled.h"
#include "zero3/small_engine.h"

/// \file
/// Spans of a sequence of units: what they compute is what their parts compute, in the ordinary
/// loop and in a batch; what they keep until backward is their input.

namespace strata::span_test {
namespace {

using small::expect_same;
using small::kWidth;
using small::linear;
using small::message_of;
using testing::HasSubstr;
using torch::Tensor;
using Tensors = UnitSequence::Tensors;

constexpr std::int64_t kRows = 64;  // an activation of 6 KiB
constexpr std::int64_t kMicroBatches = 3;

formats::DsConfig config(bool recompute = true, Precision precision = Precision::kFp32) {
  formats::DsConfig config = small::on_nvme(precision);
  config.gradient_accumulation_steps = kMicroBatches;
  config.optimizer = {.type = formats::OptimizerType::kSgd, .lr = 1.0};
  config.strata.recompute = recompute;
  return config;
}

std::vector<Tensors> batch() {
  torch::manual_seed(7);
  std::vector<Tensors> batch;
  for (int i = 0; i < kMicroBatches; ++i) batch.push_back({torch::randn({kRows, kWidth})});
  return batch;
}

/// A layer, two blocks and a layer. A block has a layer, one in tiles with what it takes handed on
/// beside them, dropout, and a layer.
struct Model {
  explicit Model(const formats::DsConfig& given) : engine(given) {
    first = engine.shard(linear(1), {.name = "first"});
    for (std::uint64_t i = 0; i < 2; ++i) {
      const std::string name = "block_" + std::to_string(i);
      inner.push_back(engine.shard(linear(10 + i), {.name = name}));
      wide.emplace_back(engine, linear(20 + i, kWidth, 4 * kWidth),
                        TileOptions{.name = name + ".wide", .elements_max = kWidth * kWidth});
      back.push_back(engine.shard(linear(30 + i, 4 * kWidth), {.name = name + ".back"}));
    }
    last = engine.shard(linear(2), {.name = "last"});
  }

  [[nodiscard]] UnitSequence block(std::size_t i) const {
    UnitSequence parts;
    const auto own = [](auto& module, const Tensors& x, const Tensors&) {
      return Tensors{x[0], module.forward(x[0])};
    };
    parts.add(inner[i], own, Recompute::kNever);
    parts.add_function([](const Tensors& x, const Tensors&) { return x[0]; });
    for (const TiledLinear::Tile& tile : wide[i].tiles()) {
      const auto forward = [](zero3::LinearTile& module, const Tensors& x, const Tensors&) {
        return module.forward(x[1]);
      };
      parts.add_beside(tile, forward, Recompute::kNever);
    }
    parts.add_function([this, i](const Tensors& x, const Tensors&) {
      Tensor y = torch::cat(Tensors(x.begin() + 1, x.end()), -1);
      made.push_back(y.storage().getWeakStorageImpl());
      // One block draws, so that a batch draws in the order of the loop.
      return Tensors{x[0], drops && i == 0 ? torch::dropout(y, 0.3, true) : y};
    });
    parts.add(
        back[i],
        [](torch::nn::LinearImpl& module, const Tensors& x, const Tensors&) {
          return x[0] + module.forward(torch::tanh(x[1]));
        },
        Recompute::kNever);
    return parts;
  }

  /// `spans`: the blocks are such.
  [[nodiscard]] UnitSequence sequence(bool spans = true) const {
    UnitSequence model;
    model.add(first);
    for (std::size_t i = 0; i < inner.size(); ++i) {
      model.add_span(block(i), inner[i], spans ? Recompute::kConfig : Recompute::kNever);
    }
    model.add(last, [](torch::nn::LinearImpl& module, const Tensors& x, const Tensors&) {
      return module.forward(x[0]).to(torch::kFloat32).square().mean();
    });
    return model;
  }

  void train_in_loop(bool spans = true) {
    const UnitSequence model = sequence(spans);
    for (const Tensors& micro_batch : batch()) {
      engine.backward(model.run(micro_batch, micro_batch).front());
      engine.step();
    }
  }

  [[nodiscard]] std::size_t alive() const {
    std::size_t count = 0;
    for (const auto& storage : made) count += storage.expired() ? 0 : 1;
    return count;
  }

  Engine engine;
  Sharded<torch::nn::Linear> first, last;
  std::vector<Sharded<torch::nn::Linear>> inner, back;
  std::vector<TiledLinear> wide;
  bool drops = false;
  mutable std::vector<c10::weak_intrusive_ptr<c10::StorageImpl>> made;  // inside of blocks
};

TEST(Spans, HaveTheBitsOfTheirPartsInTheLoopAndInABatch) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    Model parts(config(true, precision)), loop(config(true, precision)),
        batches(config(true, precision));
    for (int step = 0; step < 2; ++step) {
      parts.train_in_loop(/*spans=*/false);
      loop.train_in_loop();
      EXPECT_TRUE(batches.engine.train_batch(batches.sequence(), batch()).step.updated);
    }
    expect_same(small::masters_of(loop.engine), small::masters_of(parts.engine));
    expect_same(small::masters_of(batches.engine), small::masters_of(parts.engine));
  }
}

TEST(Spans, DrawTheSameRandomNumbersAgainAndLeaveTheNextOnesAlone) {
  const auto train = [](bool recompute, bool in_batch) {
    Model model(config(recompute));
    model.drops = true;
    Tensor drawn;
    for (int step = 0; step < 2; ++step) {
      model.made.clear();
      const std::vector<Tensors> given = batch();
      torch::manual_seed(3);
      if (in_batch) {
        (void)model.engine.train_batch(model.sequence(), given);
      } else {
        const UnitSequence sequence = model.sequence();
        for (const Tensors& micro_batch : given) {
          model.engine.backward(sequence.run(micro_batch, micro_batch).front());
          model.engine.step();
          model.made.clear();
        }
      }
      drawn = torch::randn({4});
    }
    std::vector<Tensor> masters = small::masters_of(model.engine);
    masters.push_back(drawn);
    return masters;
  };
  const std::vector<Tensor> expected = train(false, false);
  expect_same(train(true, false), expected);
  expect_same(train(true, true), expected);
  expect_same(train(false, true), expected);
}

TEST(Spans, KeepNothingOfWhatTheyComputeUntilBackward) {
  for (const bool recompute : {true, false}) {
    Model model(config(recompute));
    const Tensors given = batch().front();
    const Tensor loss = model.sequence().run(given, given).front();
    EXPECT_EQ(model.alive(), recompute ? 0u : 2u);
    model.engine.backward(loss);
    EXPECT_EQ(model.made.size(), recompute ? 4u : 2u);
  }
}

TEST(Spans, KeepNothingInABatchBeforeBackwardComes) {
  for (const bool recompute : {true, false}) {
    Model model(config(recompute));
    UnitSequence sequence;
    sequence.add(model.first);
    for (std::size_t i = 0; i < 2; ++i) sequence.add_span(model.block(i), model.inner[i]);
    std::vector<std::size_t> alive;
    const auto loss = [&](torch::nn::LinearImpl& module, const Tensors& x, const Tensors&) {
      alive.push_back(model.alive());
      return module.forward(x[0]).square().mean();
    };
    sequence.add(model.last, loss, Recompute::kNever);
    (void)model.engine.train_batch(sequence, batch());
    const std::size_t of_both = 2 * kMicroBatches;
    EXPECT_EQ(alive, std::vector<std::size_t>(kMicroBatches, recompute ? 0 : of_both));
    EXPECT_EQ(model.made.size(), recompute ? 2 * of_both : of_both);
    EXPECT_EQ(model.alive(), 0u);
  }
}

TEST(Spans, HandTheirInputsToTheRoomForActivations) {
  Model kept(config()), in_loop(config());
  formats::DsConfig with_room = config();
  with_room.strata.activations_host_bytes = 1_MiB;
  Model away(with_room), loop_away(with_room);
  for (int step = 0; step < 2; ++step) {
    (void)kept.engine.train_batch(kept.sequence(), batch());
    (void)away.engine.train_batch(away.sequence(), batch());
    in_loop.train_in_loop();
    loop_away.train_in_loop();
  }
  EXPECT_GT(away.engine.activations().put, 0u);
  EXPECT_GT(away.engine.activations().brought, 0u);
  expect_same(small::masters_of(away.engine), small::masters_of(kept.engine));
  expect_same(small::masters_of(loop_away.engine), small::masters_of(in_loop.engine));
}

TEST(Spans, TrainWhereTheirLargestPartHasRoomAlone) {
  const auto train = [](bool recompute, bool crowded) {
    formats::DsConfig given = config(recompute);
    if (crowded) {
      const Model roomy(given);
      given.strata.device_budget_bytes = zero3::smallest_budgets(roomy.engine.plan_input()).device;
    }
    Model model(given);
    std::uint64_t moved = 0;
    for (int step = 0; step < 3; ++step) {
      const std::uint64_t before = model.engine.counters()[Hop::kGather].bytes;
      (void)model.engine.train_batch(model.sequence(), batch());
      moved = model.engine.counters()[Hop::kGather].bytes - before;
    }
    return std::pair(moved, small::masters_of(model.engine));
  };
  const auto again = train(true, true), kept = train(false, true), roomy = train(true, false);
  expect_same(again.second, roomy.second);
  expect_same(kept.second, roomy.second);
  EXPECT_GT(again.first, kept.first) << "the weights come once more, to be run again";
  EXPECT_LE(again.first, kept.first * 3 / 2);
}

TEST(Spans, UpdatedUnderBackwardHaveTheSameBits) {
  formats::DsConfig early_config = config();
  early_config.strata.step_under_backward = true;
  Model early(early_config), late(config());
  for (int step = 0; step < 3; ++step) {
    (void)early.engine.train_batch(early.sequence(), batch());
    (void)late.engine.train_batch(late.sequence(), batch());
  }
  expect_same(small::masters_of(early.engine), small::masters_of(late.engine));
}

TEST(Spans, TrainWhereTheirInputsNeedNoGradient) {
  Model loop(config()), parts(config());
  for (Model* model : {&loop, &parts}) {
    UnitSequence alone;
    alone.add_span(model->block(0), model->inner[0],
                   model == &loop ? Recompute::kAlways : Recompute::kNever);
    for (const Tensors& given : batch()) {
      small::train_once(model->engine, alone.run(given).front().square().mean());
    }
  }
  expect_same(small::masters_of(loop.engine), small::masters_of(parts.engine));
  EXPECT_FALSE(torch::equal(small::weight_of(loop.inner[0]), linear(10)->weight));
}

TEST(Spans, ComputeWithoutGradients) {
  Model model(config());
  const Tensors given = batch().front();
  const torch::NoGradGuard no_grad;
  const Tensor loss = model.sequence().run(given, given).front();
  EXPECT_FALSE(loss.requires_grad());
  EXPECT_TRUE(torch::equal(loss, model.sequence(false).run(given, given).front()));
}

TEST(Spans, RefuseWeightsAndInputsThatHaveChangedBeforeBackward) {
  Model model(config());
  const Tensors given = batch().front();
  const Tensor loss = model.sequence().run(given, given).front();
  TiledLinear::Tile& tile = model.wide[1].tiles()[2];
  tile.with_unsharded([&] {
    const torch::NoGradGuard no_grad;
    tile->parameters()[0].add_(1.0);
  });
  EXPECT_THAT(message_of<UsageError>([&] { model.engine.backward(loss); }),
              HasSubstr("'tile_2.block_1.wide' have changed"));

  UnitSequence alone;
  alone.add_span(model.block(0), model.inner[0]);
  const Tensor x = torch::ones({2, kWidth});
  const Tensor sum = alone.run({x}).front().sum();
  x.zero_();
  EXPECT_THAT(message_of<UsageError>([&] { model.engine.backward(sum); }),
              HasSubstr("changed in place"));
}

TEST(Spans, HaveNoSecondGradientAndNoSecondBackward) {
  Model model(config());
  UnitSequence alone;
  alone.add_span(model.block(0), model.inner[0]);
  const Tensor x = torch::ones({2, kWidth}).requires_grad_();
  EXPECT_THAT(message_of<UsageError>([&] {
                (void)torch::autograd::grad({alone.run({x}).front().sum()}, {x}, {},
                                            /*retain_graph=*/true, /*create_graph=*/true);
              }),
              HasSubstr("gradient of a gradient"));
  const Tensor sum = alone.run({x}).front().sum();
  (void)torch::autograd::grad({sum}, {x}, {}, /*retain_graph=*/true);
  const Tensor again = torch::autograd::grad({sum}, {x})[0];
  EXPECT_TRUE(again.defined());
  const Tensor once = alone.run({x}).front();
  (void)torch::autograd::grad({once}, {x}, {torch::ones_like(once)});
  EXPECT_THROW((void)torch::autograd::grad({once}, {x}, {torch::ones_like(once)}), UsageError);
}

TEST(Spans, AreOfPartsThatEndInOneAlone) {
  Model model(config());
  UnitSequence sequence;
  EXPECT_THROW(sequence.add_span({}, model.first), UsageError);
  UnitSequence tiles;
  model.wide[0].add_to(tiles);
  EXPECT_THROW(sequence.add_span(tiles, model.first), UsageError);
  EXPECT_THROW(sequence.add_span(model.sequence(), model.first), UsageError);
  EXPECT_TRUE(sequence.parts().empty());
}

}  // namespace
}  // namespace strata::span_test
