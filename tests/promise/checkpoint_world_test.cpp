#include <gtest/gtest.h>

#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <tuple>

#include "promise/training_run.h"
#include "promise/world_run.h"
#include "strata/base/error.h"
#include "support/message_of.h"
#include "zero3/thread_world.h"

/// \file
/// Checkpoints of several ranks: the same world goes on bit for bit, and another one has the same
/// states, cut anew.

namespace strata::promise::checkpoint_world_test {
namespace {

namespace fs = std::filesystem;

void run_world(int size, const std::function<void(zero3::Ranks&)>& body) {
  for (const std::exception_ptr& each : zero3::run_ranks({.size = size}, body)) {
    if (each) std::rethrow_exception(each);
  }
}

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void expect_same_states(const fs::path& actual, const fs::path& expected) {
  int compared = 0;
  for (const auto& entry : fs::directory_iterator(expected)) {
    const std::string name = entry.path().filename().string();
    if (!name.ends_with(".safetensors") || name.starts_with("rank_")) continue;
    EXPECT_TRUE(contents(actual / name) == contents(entry.path())) << name << " differs";
    ++compared;
  }
  EXPECT_GE(compared, 4);
}

formats::DsConfig config_for(const fs::path& scratch, MomentFormat moments) {
  Training training{.name = "bf16",
                    .precision = Precision::kBf16,
                    .states = {moments, MasterFormat::kFp32},
                    .optimizer = optimizer_of(formats::OptimizerType::kAdamW)};
  return nvme_config(scratch, training, /*accumulation=*/2);
}

class CheckpointWorlds : public testing::TestWithParam<std::tuple<int, MomentFormat>> {
 protected:
  const OneThreadEach one_thread_;
  const ScratchDirectory scratch_;
  const fs::path all_ = scratch_.path() / "all";
  const models::Gpt2Config model_ = model_of_one_order();
  const formats::DsConfig config_ = config_for(scratch_.path(), std::get<1>(GetParam()));

  void save_after(int size, int micro_batches, const std::string& tag, const std::string& from) {
    run_world(size, [&](zero3::Ranks& ranks) {
      EngineRun run(config_, model_, &ranks);
      if (!from.empty()) {
        const CheckpointInfo info = run.engine().load_checkpoint(all_, from);
        run.go_on_at(info.step * 2 + info.micro_steps);
      }
      for (int micro = 0; micro < micro_batches; ++micro) run.micro_step();
      run.engine().save_checkpoint(all_, tag);
    });
  }
};
INSTANTIATE_TEST_SUITE_P(Sizes, CheckpointWorlds,
                         testing::Combine(testing::Values(1, 2, 3),
                                          testing::Values(MomentFormat::kFp32,
                                                          MomentFormat::kInt8)));

TEST_P(CheckpointWorlds, GoOnBitForBitAtTheSameSize) {
  const int size = std::get<0>(GetParam());
  save_after(size, 3, "middle", "");
  save_after(size, 3, "resumed", "middle");
  save_after(size, 6, "whole", "");
  expect_same_states(all_ / "resumed", all_ / "whole");
}

TEST_P(CheckpointWorlds, HaveTheSameStatesAtEveryOtherSize) {
  const int size = std::get<0>(GetParam());
  save_after(size, 3, "saved", "");
  for (const int other : {1, 2, 3, 4}) {
    SCOPED_TRACE(std::to_string(other) + " ranks");
    save_after(other, 0, "again", "saved");
    expect_same_states(all_ / "again", all_ / "saved");
    save_after(other, 1, "trained", "saved");  // its step has gradients of both worlds
    EXPECT_EQ(find_checkpoint(all_, "trained")->step, 2);
  }
}

TEST(CheckpointOfRanks, HasTheSameStatesInEveryStageAndGoesOnInAnother) {
  const OneThreadEach one_thread;
  const ScratchDirectory scratch;
  const auto directory = scratch.path() / "all";
  const auto run = [&](int stage, int micro_batches, const std::string& tag,
                       const std::string& from = "") {
    formats::DsConfig config = config_for(scratch.path(), MomentFormat::kInt8);
    config.zero.stage = stage;
    if (stage < 3) config.zero.offload_param = {};
    run_world(2, [&](zero3::Ranks& ranks) {
      EngineRun engine_run(config, model_of_one_order(), &ranks);
      if (!from.empty()) {
        const CheckpointInfo info = engine_run.engine().load_checkpoint(directory, from);
        engine_run.go_on_at(info.step * 2 + info.micro_steps);
      }
      for (int micro = 0; micro < micro_batches; ++micro) engine_run.micro_step();
      engine_run.engine().save_checkpoint(directory, tag);
    });
  };
  run(3, 3, "middle");
  run(3, 6, "whole");
  for (const int stage : {0, 1, 2}) {
    SCOPED_TRACE("stage " + std::to_string(stage));
    run(stage, 3, "middle_of_stage");
    expect_same_states(directory / "middle_of_stage", directory / "middle");
    run(stage, 3, "went_on", "middle");
    expect_same_states(directory / "went_on", directory / "whole");
    run(3, 3, "went_on_in_3", "middle_of_stage");
    expect_same_states(directory / "went_on_in_3", directory / "whole");
  }
}

TEST(CheckpointOfRanks, ThatOneCannotReadIsRefusedByAll) {
  const OneThreadEach one_thread;
  const ScratchDirectory scratch;
  const formats::DsConfig config = config_for(scratch.path(), MomentFormat::kFp32);
  const auto directory = scratch.path() / "all";
  run_world(2, [&](zero3::Ranks& ranks) {
    EngineRun run(config, model_of_one_order(), &ranks);
    run.step();
    run.engine().save_checkpoint(directory);
    const Parameters before = run.parameters();
    if (ranks.rank() == 0) {  // the last byte is in the second rank's part
      const fs::path file = find_checkpoint(directory)->path / "m.safetensors";
      std::fstream out(file, std::ios::binary | std::ios::in | std::ios::out);
      out.seekp(-1, std::ios::end);
      out.put('\x55');
    }
    ranks.barrier();
    const std::string message =
        support::message_of<DataError>([&] { run.engine().load_checkpoint(directory); });
    EXPECT_NE(message.find("m.safetensors"), std::string::npos) << message;
    expect_equal_bits(run.parameters(), before);
    run.step();
  });
}

}  // namespace
}  // namespace strata::promise::checkpoint_world_test
