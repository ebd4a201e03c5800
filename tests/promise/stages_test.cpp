#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <string>
#include <tuple>
#include <vector>

#include "promise/in_memory_loop.h"
#include "promise/training_run.h"
#include "promise/world_run.h"
#include "zero3/shard_map.h"
#include "zero3/thread_world.h"

/// \file
/// The promises for the stages of ZeRO: at the same world size all of them train to the same bits,
/// and ranks send and receive what the paper says (Rajbhandari et al., "ZeRO: Memory Optimizations
/// Toward Training Trillion Parameter Models", SC 2020, section 7): of a model with P bytes of
/// weights and as many of gradients, each rank sends (N - 1) / N of 2 P a step in stages 0 to 2,
/// and of up to 3 P in stage 3. Its table of memory is held by plan_ranks_test.cpp, and that a rank
/// holds the bytes of its plan by `train`.

namespace strata::promise::stages_test {
namespace {

using formats::OffloadDevice;
using Sums = InMemoryLoop::Sums;

formats::DsConfig config_of(const ScratchDirectory& scratch, int stage, OffloadDevice optimizer,
                            std::int64_t micro_batches = 1) {
  formats::DsConfig config = nvme_config(scratch.path(), Precision::kBf16, micro_batches);
  config.zero.stage = stage;
  if (stage < 3) config.zero.offload_param = {};
  config.zero.offload_optimizer.device = optimizer;
  return config;
}

// ---- bits --------------------------------------------------------------------------------------

class Stages : public testing::TestWithParam<std::tuple<int, int, OffloadDevice>> {
 protected:
  static void expect_bits(Job job, Sums sums = Sums::kOfMicroBatchesFirst) {
    const int size = std::get<1>(GetParam());
    InMemoryLoop in_memory(job.config, job.model, size, InMemoryLoop::Ties::kUseByUse);
    for (int step = 0; step < job.steps; ++step) in_memory.step(sums);
    const Parameters expected = in_memory.parameters();
    for (const Parameters& actual : train({.size = size, .seed = 3}, job)) {
      expect_equal_bits(actual, expected);
    }
  }
  [[nodiscard]] formats::DsConfig config(std::int64_t micro_batches) const {
    return config_of(scratch_, std::get<0>(GetParam()), std::get<2>(GetParam()), micro_batches);
  }

 private:
  const OneThreadEach one_thread_;
  const ScratchDirectory scratch_;
};

TEST_P(Stages, HaveTheBitsOfALoopThatAddsInRankOrder) {
  for (const std::int64_t micro_batches : {1, 2}) {
    SCOPED_TRACE(std::to_string(micro_batches) + " micro-batches");
    expect_bits({config(micro_batches), without_dropout(small_model(/*tied=*/true))});
  }
}

TEST_P(Stages, HaveTheseBitsInABatch) {
  expect_bits({config(2), without_dropout(small_model(/*tied=*/false)), &EngineRun::step_by_batch},
              Sums::kOfRanksFirst);
}

INSTANTIATE_TEST_SUITE_P(Sizes, Stages,
                         testing::Combine(testing::Values(0, 1, 2, 3), testing::Values(2, 3),
                                          testing::Values(OffloadDevice::kNone, OffloadDevice::kCpu,
                                                          OffloadDevice::kNvme)),
                         [](const auto& tested) {
                           return "stage" + std::to_string(std::get<0>(tested.param)) + "_of_" +
                                  std::to_string(std::get<1>(tested.param)) + "_optimizer_" +
                                  std::to_string(static_cast<int>(std::get<2>(tested.param)));
                         });

TEST(Stages, RoundAtRandomToTheSameBits) {
  const OneThreadEach one_thread;
  std::vector<Parameters> runs;
  for (const int stage : {0, 1, 2, 3}) {
    const ScratchDirectory scratch;
    formats::DsConfig config = config_of(scratch, stage, OffloadDevice::kCpu);
    config.strata.states.moments = MomentFormat::kInt8;
    const Job job{config, without_dropout(small_model())};
    for (Parameters& of_rank : train({.size = 3, .seed = 2}, job)) {
      runs.push_back(std::move(of_rank));
    }
  }
  for (const Parameters& run : runs) expect_equal_bits(run, runs.front());
}

TEST(Stages, ShowTheSameGradientsAndMastersBetweenSteps) {
  const OneThreadEach one_thread;
  std::vector<Parameters> seen;
  for (const int stage : {0, 2, 3}) {
    const ScratchDirectory scratch;
    const formats::DsConfig config = config_of(scratch, stage, OffloadDevice::kNvme);
    const auto thrown = zero3::run_ranks({.size = 2}, [&](zero3::Ranks& ranks) {
      EngineRun run(config, without_dropout(small_model()), &ranks);
      run.step();
      Batch batch = make_batch(small_model(), ranks.rank());
      const c10::Device device = run.engine().device();
      run.engine().backward(run.model().loss(batch.tokens.to(device), batch.targets.to(device)));
      Parameters values;
      run.engine().visit_gradients([&](const std::string& name, const torch::Tensor& value) {
        values["gradient of " + name] = value.clone();
      });
      run.engine().visit_masters([&](const std::string& name, const torch::Tensor& value) {
        values[name] = value.clone();
      });
      if (ranks.rank() == 1) seen.push_back(std::move(values));
    });
    for (const std::exception_ptr& each : thrown) {
      if (each) std::rethrow_exception(each);
    }
  }
  for (const Parameters& each : seen) expect_equal_bits(each, seen.front());
}

// ---- bytes that ranks exchange -----------------------------------------------------------------

/// What a rank receives in one steady step.
struct Volume {
  std::uint64_t gathered = 0, reduced = 0;       // as the step's report says
  std::uint64_t all_gather = 0, all_to_all = 0;  // as the ranks count what they begin
};

struct Case {
  int stage, ranks;
  bool least_device = false;
};

// NOLINTNEXTLINE(readability-identifier-naming): the name that GoogleTest looks for
void PrintTo(const Case& tested, std::ostream* out) {
  *out << "stage " << tested.stage << ", " << tested.ranks << " ranks"
       << (tested.least_device ? ", least room on the device" : "");
}

/// Bytes of a unit's weights in bf16, padded for the ranks.
std::uint64_t bytes_of(const zero3::UnitLayout& unit, int ranks) {
  return zero3::ShardMap(unit.trainable_count, ranks).padded_count() * 2;
}

/// The first unit, of embeddings and head, is used twice: by both ends of the model. So its
/// gradients are exchanged twice, and where it has not stayed in between, its weights.
std::uint64_t bytes_used_again(const std::vector<zero3::UnitLayout>& units, int ranks) {
  return bytes_of(units.front(), ranks);
}

class StagesVolume : public testing::TestWithParam<Case> {
 protected:
  StagesVolume() {
    job_.config = config_of(scratch_, GetParam().stage, OffloadDevice::kNvme);
    job_.model = without_dropout(small_model(/*tied=*/false));
    units_ = models::unit_layouts(job_.model);
    if (!GetParam().least_device) return;
    zero3::PlanInput input = TestDevice::plan_input(job_.config);
    input.world_size = GetParam().ranks;
    input.units = units_;
    job_.config.strata.device_budget_bytes = zero3::smallest_budgets(input).device;
  }

  /// The volume of the third step, which is that of every later one. All ranks have the same.
  [[nodiscard]] Volume measured() const {
    std::vector<Volume> volumes(static_cast<std::size_t>(GetParam().ranks));
    const auto thrown = zero3::run_ranks({.size = GetParam().ranks}, [&](zero3::Ranks& ranks) {
      EngineRun run(job_.config, job_.model, &ranks);
      run.step();
      run.step();
      using Kind = zero3::CollectiveKind;
      const std::uint64_t gathers = ranks.received(Kind::kAllGather);
      const std::uint64_t exchanges = ranks.received(Kind::kAllToAll);
      run.step();
      volumes[static_cast<std::size_t>(ranks.rank())] = {
          .gathered = run.report().gathered_bytes,
          .reduced = run.report().reduced_bytes,
          .all_gather = ranks.received(Kind::kAllGather) - gathers,
          .all_to_all = ranks.received(Kind::kAllToAll) - exchanges};
    });
    for (const std::exception_ptr& each : thrown) {
      if (each) std::rethrow_exception(each);
    }
    for (const Volume& volume : volumes) {
      EXPECT_EQ(volume.gathered, volumes.front().gathered);
      EXPECT_EQ(volume.reduced, volumes.front().reduced);
    }
    return volumes.front();
  }

  [[nodiscard]] std::uint64_t all_weights() const {
    std::uint64_t bytes = 0;
    for (const zero3::UnitLayout& unit : units_) bytes += bytes_of(unit, GetParam().ranks);
    return bytes;
  }
  /// The part of `bytes` that comes from other ranks.
  [[nodiscard]] static std::uint64_t from_others(std::uint64_t bytes) {
    const auto ranks = static_cast<std::uint64_t>(GetParam().ranks);
    return bytes / ranks * (ranks - 1);
  }
  /// A byte for each parameter, from each other rank: whether it has a gradient there.
  [[nodiscard]] std::uint64_t flags() const {
    std::uint64_t parameters = units_.front().parameters.size();  // for its second use
    for (const zero3::UnitLayout& unit : units_) parameters += unit.parameters.size();
    return parameters * static_cast<std::uint64_t>(GetParam().ranks - 1);
  }

  const OneThreadEach one_thread_;
  const ScratchDirectory scratch_;
  Job job_;
  std::vector<zero3::UnitLayout> units_;
};

TEST_P(StagesVolume, IsWhatThePaperSays) {
  const Volume volume = measured();
  const std::uint64_t once = from_others(all_weights());
  const std::uint64_t again = from_others(bytes_used_again(units_, GetParam().ranks));
  switch (GetParam().stage) {
    case 0:  // gradients are reduced, and the sums go to all
      EXPECT_EQ(volume.gathered, 0u);
      EXPECT_EQ(volume.reduced, 2 * (once + again));
      break;
    case 1:
    case 2:
      EXPECT_EQ(volume.gathered, once);
      EXPECT_EQ(volume.reduced, once + again);
      break;
    default: EXPECT_EQ(volume.reduced, once + again); break;
  }
  if (GetParam().stage == 3 && !GetParam().least_device) {
    EXPECT_EQ(volume.gathered, once) << "with room for all units none is gathered again";
  }
  if (GetParam().least_device) {
    // Backward gathers again all but what is still there from forward.
    std::uint64_t room = 0, still_there = 0;
    for (const zero3::UnitLayout& unit : units_) {
      room = std::max(room, bytes_of(unit, GetParam().ranks) + 4096);
    }
    for (auto unit = units_.rbegin(); unit != units_.rend(); ++unit) {
      const std::uint64_t bytes = bytes_of(*unit, GetParam().ranks);
      if (still_there + bytes > room) break;
      still_there += bytes;
    }
    EXPECT_LE(volume.gathered, 2 * once + again);
    EXPECT_GE(volume.gathered, 2 * once + again - from_others(still_there));
    EXPECT_GT(volume.gathered, 3 * once / 2);
  }
}

TEST_P(StagesVolume, IsWhatTheRanksSendAndReceive) {
  const Volume volume = measured();
  const std::uint64_t sums = GetParam().stage == 0 ? volume.reduced / 2 : 0;
  EXPECT_EQ(volume.all_to_all, volume.reduced - sums);
  EXPECT_EQ(volume.all_gather, volume.gathered + sums + flags());
}

TEST_P(StagesVolume, IsThatOfTheParametersButForPadding) {
  std::uint64_t parameters = 0;
  for (const zero3::UnitLayout& unit : units_) {
    for (const zero3::ParameterLayout& parameter : unit.parameters) parameters += parameter.count;
  }
  EXPECT_LT(static_cast<double>(all_weights()), 1.05 * 2 * static_cast<double>(parameters));
}

INSTANTIATE_TEST_SUITE_P(Cases, StagesVolume,
                         testing::Values(Case{0, 2}, Case{0, 3}, Case{1, 2}, Case{2, 2}, Case{2, 4},
                                         Case{3, 2}, Case{3, 4}, Case{3, 2, true},
                                         Case{3, 4, true}),
                         [](const auto& tested) {
                           return "stage" + std::to_string(tested.param.stage) + "_of_" +
                                  std::to_string(tested.param.ranks) +
                                  (tested.param.least_device ? "_least_device" : "");
                         });

TEST(StagesVolume, OfOneRankIsNothing) {
  const ScratchDirectory scratch;
  EngineRun run(config_of(scratch, 3, OffloadDevice::kNvme), without_dropout(small_model()));
  run.step();
  EXPECT_EQ(run.report().gathered_bytes + run.report().reduced_bytes, 0u);
}

TEST(StagesVolume, OfABatchIsThatOfOneMicroBatchWithSumsInFp32) {
  const OneThreadEach one_thread;
  const ScratchDirectory scratch;
  const formats::DsConfig config = config_of(scratch, 2, OffloadDevice::kCpu, 3);
  const models::Gpt2Config model = without_dropout(small_model(/*tied=*/false));
  const std::vector<zero3::UnitLayout> units = models::unit_layouts(model);
  std::uint64_t bytes = 0;
  for (const zero3::UnitLayout& unit : units) bytes += bytes_of(unit, 2);
  const std::uint64_t used = bytes + bytes_used_again(units, 2);
  const auto thrown = zero3::run_ranks({.size = 2}, [&](zero3::Ranks& ranks) {
    EngineRun run(config, model, &ranks);
    run.step_by_batch();
    run.step_by_batch();
    EXPECT_EQ(run.report().gathered_bytes, bytes / 2);
    EXPECT_EQ(run.report().reduced_bytes, 2 * used / 2);
    run.step();
    EXPECT_EQ(run.report().gathered_bytes, bytes / 2);
    EXPECT_EQ(run.report().reduced_bytes, 3 * used / 2) << "each micro-batch, in bf16";
  });
  for (const std::exception_ptr& each : thrown) {
    if (each) std::rethrow_exception(each);
  }
}

}  // namespace
}  // namespace strata::promise::stages_test
