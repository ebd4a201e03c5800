#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "models/everything_on_nvme.h"
#include "models/small_llama.h"
#include "strata/models/causal_lm.h"
#include "strata/models/model_layout.h"
#include "strata/zero3/engine.h"
#include "zero3/thread_world.h"

/// \file
/// Experts that no token has chosen are left alone, and ranks whose tokens choose others than those
/// of other ranks wait for none.

namespace strata::models::experts_test {
namespace {

namespace fs = std::filesystem;
using torch::Tensor;
using Batch = std::vector<UnitSequence::Tensors>;
using Masters = std::map<std::string, Tensor>;

LlamaConfig model_config() {
  LlamaConfig config = small_qwen3_moe();
  config.initializer_range = 0.5;  // tokens choose unlike one another
  return config;
}

/// Micro-batches of a few tokens: they choose some of 16 experts.
Batch batch_of(std::int64_t micro_batches, std::int64_t length, std::uint64_t seed) {
  torch::manual_seed(seed);
  Batch batch;
  for (std::int64_t i = 0; i < micro_batches; ++i) {
    batch.push_back({torch::randint(37, {2, length}, torch::kInt64),
                     torch::randint(37, {2, length}, torch::kInt64)});
  }
  return batch;
}

class Experts : public ::testing::Test {
 protected:
  Experts() : root_(fs::path(::testing::TempDir()) / ("strata_moe_" + std::to_string(::getpid()))) {
    fs::create_directories(root_);
  }
  ~Experts() override { fs::remove_all(root_); }

  [[nodiscard]] formats::DsConfig on_nvme(std::int64_t accumulation, std::int64_t ranks = 1) const {
    formats::DsConfig config =
        everything_on_nvme("moe", root_, Precision::kFp32, accumulation * ranks);
    config.gradient_accumulation_steps = accumulation;
    config.strata.host_cache = false;
    return config;
  }
  static std::unique_ptr<CausalLm> in_engine(Engine& engine) {
    return make_causal_lm(model_config(), engine, random_initializer(model_config(), 3));
  }
  static Masters masters_of(Engine& engine) {
    Masters values;
    engine.visit_masters(
        [&](const std::string& name, const Tensor& value) { values.emplace(name, value.clone()); });
    return values;
  }
  /// The masters after three steps.
  static Masters train(Engine& engine, const Batch& batch, bool unit_by_unit) {
    const auto model = in_engine(engine);
    for (int step = 0; step < 3; ++step) {
      if (unit_by_unit) {
        (void)engine.train_batch(model->sequence(), batch);
        continue;
      }
      for (const auto& micro_batch : batch) {
        engine.backward(model->loss(micro_batch[0], micro_batch[1]));
        engine.step();
      }
    }
    return masters_of(engine);
  }
  /// The units that have a gradient of this loss, by their first parameters.
  static std::set<std::string> chosen_by(const Batch& batch) {
    const auto model =
        make_causal_lm(model_config(), Precision::kFp32, random_initializer(model_config(), 3));
    for (const auto& micro_batch : batch) model->loss(micro_batch[0], micro_batch[1]).backward();
    std::set<std::string> chosen;
    model->visit_parameters([&](const std::string& name, const Tensor& value) {
      if (value.grad().defined()) chosen.insert(name);
    });
    return chosen;
  }

  fs::path root_;
};

/// Bytes of the weights of units, those of experts alone where a parameter of theirs is in
/// `chosen`.
std::uint64_t weight_bytes_of(const Engine& engine, const std::set<std::string>& chosen) {
  std::uint64_t bytes = 0;
  for (const zero3::UnitLayout& unit : engine.plan_input().units) {
    if (chosen.contains(unit.full_name(unit.parameters.front()))) {
      bytes += unit.trainable_count * sizeof(float);
    }
  }
  return bytes;
}

TEST_F(Experts, ThatNoTokenHasChosenAreNotReadAndNotUpdated) {
  formats::DsConfig config = on_nvme(1);
  config.optimizer = {.type = formats::OptimizerType::kAdamW, .lr = 0.1, .weight_decay = 0.5};
  Engine engine(config);
  const auto model = in_engine(engine);
  const Batch batch = batch_of(1, 2, 5);
  const std::set<std::string> chosen = chosen_by(batch);
  const Masters before = masters_of(engine);
  ASSERT_LT(chosen.size(), before.size() - 20) << "most tokens choose the same";

  engine.prepare();
  const std::uint64_t chosen_bytes = weight_bytes_of(engine, chosen);
  std::uint64_t read = engine.counters()[Hop::kFetch].bytes;
  {
    const torch::NoGradGuard no_grad;
    (void)model->loss(batch[0][0], batch[0][1]);
  }
  EXPECT_LE(engine.counters()[Hop::kFetch].bytes - read, chosen_bytes);
  read = engine.counters()[Hop::kFetch].bytes;
  engine.backward(model->loss(batch[0][0], batch[0][1]));
  EXPECT_LE(engine.counters()[Hop::kFetch].bytes - read, 2 * chosen_bytes)
      << "once for forward and once for backward";
  engine.step();
  engine.finish_step();
  // The step reads the weight again, and two moments.
  EXPECT_LE(engine.counters()[Hop::kFetch].bytes - read, 5 * chosen_bytes);

  for (const auto& [name, value] : masters_of(engine)) {
    EXPECT_EQ(torch::equal(value, before.at(name)), !chosen.contains(name)) << name;
  }
}

TEST_F(Experts, OfMicroBatchesThatChooseUnlikeOneAnotherAreTrainedAsInTheOrdinaryLoop) {
  const Batch batch = batch_of(3, 2, 6);
  ASSERT_NE(chosen_by({batch[0]}), chosen_by({batch[1]}));
  const auto trained = [&](bool unit_by_unit, bool recomputes, bool under_backward) {
    formats::DsConfig config = on_nvme(3);
    config.strata.recompute = recomputes;
    config.strata.step_under_backward = under_backward;
    Engine engine(config);
    return train(engine, batch, unit_by_unit);
  };
  const Masters expected = trained(false, false, false);
  for (const auto& [unit_by_unit, recomputes, under_backward] :
       std::vector<std::tuple<bool, bool, bool>>{
           {false, true, false}, {true, false, false}, {true, true, false}, {true, true, true}}) {
    const Masters masters = trained(unit_by_unit, recomputes, under_backward);
    for (const auto& [name, value] : masters) {
      // Sums over the tokens of all micro-batches at once round otherwise.
      EXPECT_TRUE(unit_by_unit ? torch::allclose(value, expected.at(name), 1e-4, 1e-5)
                               : torch::equal(value, expected.at(name)))
          << name << (unit_by_unit ? ", unit by unit" : "") << (recomputes ? ", recomputed" : "");
    }
  }
}

TEST_F(Experts, ComeOnceInEachDirectionForAllMicroBatchesOfABatch) {
  Engine engine(on_nvme(4));
  const auto model = in_engine(engine);
  const Batch batch = batch_of(4, 2, 8);
  engine.prepare();
  const std::uint64_t before = engine.counters()[Hop::kFetch].bytes;
  (void)engine.train_batch(model->sequence(), batch);
  engine.finish_step();
  // SGD reads the weight once more.
  EXPECT_LE(engine.counters()[Hop::kFetch].bytes - before,
            3 * weight_bytes_of(engine, chosen_by(batch)));
}

/// Ranks that train, and how.
struct Group {
  int ranks, stage;
  bool unit_by_unit;
};

TEST_F(Experts, OfRanksWhoseTokensChooseUnlikeOneAnotherAreTrainedAsOnOneRank) {
  for (const Group& run :
       {Group{2, 3, false}, Group{3, 3, true}, Group{2, 1, false}, Group{2, 0, true}}) {
    const Batch batch = batch_of(2 * run.ranks, 1, 7);
    ASSERT_NE(chosen_by({batch[0]}), chosen_by({batch[2]}));
    Engine alone(on_nvme(2 * run.ranks));
    const Masters expected = train(alone, batch, run.unit_by_unit);
    std::vector<Masters> masters(static_cast<std::size_t>(run.ranks));
    const auto train_rank = [&](zero3::Ranks& own) {
      formats::DsConfig config = on_nvme(2, run.ranks);
      config.zero.stage = run.stage;
      if (run.stage < 3) config.zero.offload_param = {};
      if (run.stage < 1) config.zero.offload_optimizer = {};
      Engine engine(config, {.ranks = &own});
      const auto first = batch.begin() + 2 * own.rank();
      masters[static_cast<std::size_t>(own.rank())] =
          train(engine, Batch(first, first + 2), run.unit_by_unit);
    };
    const auto thrown = zero3::run_ranks({.size = run.ranks,
                                          .deadline = std::chrono::seconds(20),
                                          .delay_max = std::chrono::microseconds(200),
                                          .delay_seed = 1},
                                         train_rank);
    for (const std::exception_ptr& each : thrown) {
      if (each) std::rethrow_exception(each);
    }
    for (const Masters& own : masters) {
      ASSERT_EQ(own.size(), expected.size());
      for (const auto& [name, value] : own) {
        EXPECT_TRUE(torch::allclose(value, expected.at(name), 1e-4, 1e-5))
            << name << " of " << run.ranks << " ranks in stage " << run.stage;
      }
    }
  }
}

}  // namespace
}  // namespace strata::models::experts_test
