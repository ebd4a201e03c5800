#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "zero3/small_engine.h"

/// \file
/// Inputs of recomputed units that go to host memory or nvme: their memory comes back, whoever
/// looks at them still sees them, and autograd keeps its word.

namespace strata::activations_test {
namespace {

using small::linear;
using small::message_of;
using testing::HasSubstr;
using torch::Tensor;
using Tensors = UnitSequence::Tensors;

constexpr std::int64_t kRows = 64;  // an activation of 6 KiB

formats::DsConfig with_room(std::uint64_t host, std::uint64_t nvme = 0) {
  formats::DsConfig config = small::on_nvme();
  config.strata.activations_host_bytes = host;
  config.strata.activations_nvme_bytes = nvme;
  return config;
}

Tensor wide_input(std::uint64_t seed = 7) {
  torch::manual_seed(seed);
  return torch::randn({kRows, small::kWidth}).set_requires_grad(true);
}

/// Tells whether the memory of tensors is still there.
class Watch {
 public:
  void add(const Tensor& tensor) { storages_.push_back(tensor.storage().getWeakStorageImpl()); }
  [[nodiscard]] std::size_t alive() const {
    std::size_t count = 0;
    for (const auto& storage : storages_) count += storage.expired() ? 0 : 1;
    return count;
  }
  [[nodiscard]] std::size_t all() const { return storages_.size(); }

 private:
  std::vector<c10::weak_intrusive_ptr<c10::StorageImpl>> storages_;
};

/// Layers one after the other, in one engine.
struct Chain {
  explicit Chain(const formats::DsConfig& config, std::uint64_t layers = 4) : engine(config) {
    for (std::uint64_t i = 0; i < layers; ++i) units.push_back(engine.shard(linear(i)));
  }
  Tensor forward(Tensor x, Watch* watch = nullptr) {
    for (auto& unit : units) {
      x = torch::tanh(unit(x));
      if (watch != nullptr && &unit != &units.back()) watch->add(x);
    }
    return x;
  }
  Engine engine;
  std::vector<Sharded<torch::nn::Linear>> units;
};

TEST(Activations, TheirMemoryComesBackInForward) {
  for (const bool away : {false, true}) {
    Chain chain(with_room(away ? 1_MiB : 0));
    Watch given;
    Tensor x = wide_input();
    for (auto& unit : chain.units) {
      x = unit(x);
      given.add(x);
    }
    EXPECT_EQ(given.alive(), away ? 1u : given.all()) << "the last one is the caller's";
    chain.engine.backward(x.sum());
  }
}

TEST(Activations, TheirMemoryComesBackInABatch) {
  for (const bool away : {false, true}) {
    formats::DsConfig config = with_room(away ? 1_MiB : 0);
    config.gradient_accumulation_steps = 3;
    Chain chain(config);
    Watch watch;
    std::vector<std::size_t> alive;
    UnitSequence model;
    for (std::size_t i = 0; i + 1 < chain.units.size(); ++i) {
      model.add(chain.units[i], [&, i](auto& layer, const Tensors& x, const Tensors&) {
        if (i > 0 && alive.empty()) watch.add(x[0]);
        return layer.forward(x[0]);
      });
    }
    model.add(chain.units.back(), [&](auto& layer, const Tensors& x, const Tensors&) {
      alive.push_back(watch.alive());
      return layer.forward(x[0]).square().mean();
    });
    const std::vector<Tensors> batch = {{wide_input(1)}, {wide_input(2)}, {wide_input(3)}};
    chain.engine.train_batch(model, batch);
    ASSERT_EQ(watch.all(), 6u) << "of two parts, three micro-batches";
    EXPECT_EQ(alive.front(), away ? 0u : 6u);
  }
}

TEST(Activations, AUsersOwnTensorsKeepTheirValues) {
  Chain chain(with_room(1_MiB));
  const Tensor x = wide_input();
  const Tensor before = x.detach().clone();
  Tensor seen;
  torch::nn::Linear layer = chain.units[0].module();
  const Tensor y = chain.units[0].run(
      [&](const Tensor& given) {
        seen = given;
        return layer->forward(given);
      },
      Recompute::kConfig, x);
  ASSERT_GT(chain.engine.activations().put, 0u);
  EXPECT_TRUE(torch::equal(x, before));
  EXPECT_TRUE(torch::equal(seen, before)) << "a body may keep what it is given";
  chain.engine.backward(y.sum());
  EXPECT_TRUE(torch::equal(x, before));
}

TEST(Activations, OneThatIsChangedInPlaceIsRefusedAsOneThatStays) {
  for (const bool away : {false, true}) {
    Chain chain(with_room(away ? 1_MiB : 0));
    const Tensor x = wide_input() * 1;
    const Tensor y = chain.units[0](x);
    {
      const torch::NoGradGuard no_grad;
      x.add_(1);
    }
    EXPECT_THAT(message_of<UsageError>([&] { chain.engine.backward(y.sum()); }),
                HasSubstr("changed in place between its forward and its backward"));
  }
}

TEST(Activations, ARetainedGraphFindsThemAgain) {
  for (const std::uint64_t nvme : {std::uint64_t{0}, std::uint64_t{1_MiB}}) {
    Chain chain(with_room(16_KiB + (nvme == 0 ? 1_MiB : 0), nvme)), plain(with_room(0));
    const Tensor x = wide_input(), same = wide_input();
    const Tensor loss = chain.forward(x).square().sum();
    const Tensor expected = torch::autograd::grad({plain.forward(same).square().sum()}, {same})[0];
    for (int i = 0; i < 3; ++i) {
      const Tensor gradient = torch::autograd::grad({loss}, {x}, {}, /*retain_graph=*/i < 2)[0];
      EXPECT_TRUE(torch::equal(gradient, expected)) << "backward " << i;
    }
    EXPECT_EQ(chain.engine.activations().brought, 3 * chain.engine.activations().put);
    EXPECT_GT(chain.engine.activations().put, 0u);
  }
}

TEST(Activations, AGraphThatIsDroppedGivesTheirRoomBack) {
  Chain chain(with_room(64_KiB));
  for (int i = 0; i < 20; ++i) std::ignore = chain.forward(wide_input());
  EXPECT_EQ(chain.engine.activations().refused, 0u);
  EXPECT_GT(chain.engine.activations().put, 4 * 64_KiB);
  // And after an exception on the way.
  for (int i = 0; i < 20; ++i) {
    EXPECT_THROW(chain.units[1](torch::cat({chain.forward(wide_input()), torch::ones({1, 1})}, 0)),
                 c10::Error);
  }
  EXPECT_EQ(chain.engine.activations().refused, 0u);
}

TEST(Activations, AFullRoomIsNoError) {
  Chain full(with_room(16_KiB)), plain(with_room(0));
  small::train_once(full.engine, full.forward(wide_input()).square().sum());
  small::train_once(plain.engine, plain.forward(wide_input()).square().sum());
  EXPECT_GT(full.engine.activations().refused, 0u);
  EXPECT_GT(full.engine.activations().put, 0u);
  small::expect_same(small::masters_of(full.engine), small::masters_of(plain.engine));
}

TEST(Activations, OneThatSeveralUnitsAreGivenIsTakenOnce) {
  Chain chain(with_room(1_MiB)), plain(with_room(0));
  const auto loss = [](Chain& of) {
    const Tensor x = wide_input();
    Tensor sum = of.units[0](x);
    for (std::size_t i = 1; i < of.units.size(); ++i) sum = sum + of.units[i](x);
    return sum.square().sum();
  };
  small::train_once(chain.engine, loss(chain));
  small::train_once(plain.engine, loss(plain));
  EXPECT_EQ(chain.engine.activations().put, kRows * small::kWidth * sizeof(float));
  small::expect_same(small::masters_of(chain.engine), small::masters_of(plain.engine));
}

TEST(Activations, OnesThatLieOtherwiseInMemoryComeBackAsTheyWere) {
  Chain chain(with_room(1_MiB)), plain(with_room(0));
  const auto loss = [](Chain& of) {
    torch::manual_seed(3);
    const Tensor x = torch::randn({small::kWidth, kRows + 10}).set_requires_grad(true);
    const Tensor columns = x.t();                    // dense, and not contiguous
    const Tensor some = columns.slice(0, 5, kRows);  // a piece of a storage, with holes
    const Tensor rows = (x * 2).slice(0, 1).t().contiguous().slice(0, 3);  // and without
    return of.units[0](columns).square().sum() + of.units[1](some).sum() +
           of.units[2](torch::constant_pad_nd(rows, {0, 1})).square().sum();
  };
  small::train_once(chain.engine, loss(chain));
  small::train_once(plain.engine, loss(plain));
  EXPECT_GT(chain.engine.activations().put, 0u);
  small::expect_same(small::masters_of(chain.engine), small::masters_of(plain.engine));
}

TEST(Activations, AnEngineThatGoesFirstTakesThemAlong) {
  Tensor y;
  {
    Chain chain(with_room(16_KiB, 1_MiB));
    y = chain.forward(wide_input());
    ASSERT_GT(chain.engine.activations().put, 0u);
  }
  EXPECT_THROW(y.sum().backward(), UsageError);
}

}  // namespace
}  // namespace strata::activations_test
