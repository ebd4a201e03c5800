#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "promise/training_run.h"
#include "strata/models/gpt2_layout.h"

/// \file
/// A run that was stopped and goes on from a checkpoint has the bits of one that never stopped, in
/// every format of states, wherever they rest before and after.

namespace strata::promise::checkpoint_test {
namespace {

using formats::OffloadDevice;
using formats::OptimizerType;
using formats::StatesConfig;

constexpr int kStepsBefore = 2, kStepsAfter = 2;

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The bytes of all states of a checkpoint, by file.
std::map<std::string, std::string> states_in(const std::filesystem::path& checkpoint) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(checkpoint)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".safetensors") && !name.starts_with("rank_")) {
      files[name] = contents(entry.path());
    }
  }
  return files;
}

void expect_same_states(const std::filesystem::path& actual,
                        const std::filesystem::path& expected) {
  const auto ours = states_in(actual), theirs = states_in(expected);
  ASSERT_EQ(ours.size(), theirs.size());
  for (const auto& [name, bytes] : theirs) {
    ASSERT_TRUE(ours.contains(name)) << name;
    EXPECT_TRUE(ours.at(name) == bytes) << name << " differs";
  }
}

void load(EngineRun& run, const std::filesystem::path& directory) {
  const CheckpointInfo info = run.engine().load_checkpoint(directory);
  run.go_on_at(info.step * run.engine().config().gradient_accumulation_steps + info.micro_steps);
}

Training training(const char* name, Precision precision, StatesConfig states = {},
                  OptimizerType type = OptimizerType::kAdamW) {
  return {.name = name, .precision = precision, .states = states, .optimizer = optimizer_of(type)};
}

constexpr StatesConfig kSmallest{MomentFormat::kInt8, MasterFormat::k24Bit};
constexpr StatesConfig kBf16Moments{MomentFormat::kBf16, MasterFormat::kFp32};

std::vector<Training> all_formats() {
  return {
      training("fp32", Precision::kFp32),
      training("bf16", Precision::kBf16),
      training("fp16", Precision::kFp16),
      training("bf16_smallest", Precision::kBf16, kSmallest),
      training("fp32_int8_moments", Precision::kFp32, {MomentFormat::kInt8, MasterFormat::kFp32}),
      training("bf16_moments", Precision::kBf16, kBf16Moments),
      training("sgd_smallest", Precision::kBf16, kSmallest, OptimizerType::kSgd),
      training("adagrad", Precision::kFp32, {}, OptimizerType::kAdagrad),
      training("lion_bf16_moments", Precision::kBf16, kBf16Moments, OptimizerType::kLion)};
}

// ---- formats -----------------------------------------------------------------------------------

class CheckpointFormats : public testing::TestWithParam<Training> {};
INSTANTIATE_TEST_SUITE_P(Formats, CheckpointFormats, testing::ValuesIn(all_formats()),
                         [](const auto& tested) { return tested.param.name; });

TEST_P(CheckpointFormats, ResumeToTheBitsOfARunThatNeverStopped) {
  const ScratchDirectory scratch;
  const auto saved = scratch.path() / "saved", ends = scratch.path() / "ends";
  const formats::DsConfig config = nvme_config(scratch.path(), GetParam(), /*accumulation=*/2);
  {
    EngineRun whole(config, small_model());
    for (int step = 0; step < kStepsBefore; ++step) whole.step();
    whole.engine().save_checkpoint(saved);
    for (int step = 0; step < kStepsAfter; ++step) whole.step();
    whole.engine().save_checkpoint(ends, "whole");
  }
  EngineRun resumed(config, small_model());
  load(resumed, saved);
  for (int step = 0; step < kStepsAfter; ++step) resumed.step();
  resumed.engine().save_checkpoint(ends, "resumed");
  expect_same_states(ends / "resumed", ends / "whole");
}

TEST_P(CheckpointFormats, ResumeBetweenTheMicroBatchesOfAStep) {
  const ScratchDirectory scratch;
  const auto saved = scratch.path() / "saved", ends = scratch.path() / "ends";
  const formats::DsConfig config = nvme_config(scratch.path(), GetParam(), /*accumulation=*/3);
  {
    EngineRun whole(config, small_model());
    for (int micro = 0; micro < 5; ++micro) whole.micro_step();
    const CheckpointInfo info = whole.engine().save_checkpoint(saved);
    EXPECT_EQ(info.step, 1);
    EXPECT_EQ(info.micro_steps, 2);
    EXPECT_TRUE(std::filesystem::exists(info.path / "gradient.safetensors"));
    for (int micro = 0; micro < 4; ++micro) whole.micro_step();
    whole.engine().save_checkpoint(ends, "whole");
  }
  EngineRun resumed(config, small_model());
  load(resumed, saved);
  for (int micro = 0; micro < 4; ++micro) resumed.micro_step();
  resumed.engine().save_checkpoint(ends, "resumed");
  expect_same_states(ends / "resumed", ends / "whole");
}

TEST_P(CheckpointFormats, WriteAgainWhatWasRead) {
  const ScratchDirectory scratch;
  const auto saved = scratch.path() / "saved";
  const formats::DsConfig config = nvme_config(scratch.path(), GetParam(), /*accumulation=*/2);
  EngineRun first(config, small_model());
  for (int micro = 0; micro < 5; ++micro) first.micro_step();
  first.engine().save_checkpoint(saved, "first");
  first.micro_step();  // what is loaded takes the place of this
  load(first, saved);
  first.engine().save_checkpoint(saved, "again");
  expect_same_states(saved / "again", saved / "first");
}

// ---- places ------------------------------------------------------------------------------------

/// Ways to keep and move the same states: a name, and what is changed in the config.
std::vector<std::pair<std::string, std::function<void(formats::DsConfig&)>>> ways() {
  return {{"everything on nvme", [](formats::DsConfig&) {}},
          {"weights on the device, states in host memory",
           [](formats::DsConfig& config) {
             config.zero.offload_param.device = OffloadDevice::kNone;
             config.zero.offload_optimizer.device = OffloadDevice::kCpu;
           }},
          {"weights in host memory, states on nvme, large chunks, the threads backend",
           [](formats::DsConfig& config) {
             config.zero.offload_param.device = OffloadDevice::kCpu;
             config.strata.chunk_bytes = 1u << 20;
             config.strata.io = IoBackend::kThreads;
           }},
          {"everything on the device",
           [](formats::DsConfig& config) {
             config.zero.offload_param.device = OffloadDevice::kNone;
             config.zero.offload_optimizer.device = OffloadDevice::kNone;
           }},
          {"the least host memory",
           [](formats::DsConfig& config) {
             zero3::PlanInput input = TestDevice::plan_input(config);
             input.units = models::unit_layouts(small_model());
             config.strata.host_budget_bytes = zero3::smallest_budgets(input).host;
           }},
          {"half of the states in host memory", [](formats::DsConfig& config) {
             zero3::PlanInput input = TestDevice::plan_input(config);
             input.units = models::unit_layouts(small_model());
             config.strata.host_budget_bytes = host_budget_that_keeps(input, 50);
           }}};
}

TEST(CheckpointPlaces, ChangeNoBitOfWhatIsSavedNorOfWhatComesAfterwards) {
  const Training bf16 = training("bf16_smallest", Precision::kBf16, kSmallest);
  const ScratchDirectory scratch;
  const auto all = scratch.path() / "all";
  const auto config_of = [&](const auto& way) {
    formats::DsConfig config = nvme_config(scratch.path(), bf16, /*accumulation=*/2);
    way(config);
    return config;
  };
  int number = 0;
  for (const auto& [name, way] : ways()) {
    SCOPED_TRACE(name);
    EngineRun run(config_of(way), small_model());
    for (int micro = 0; micro < 3; ++micro) run.micro_step();
    run.engine().save_checkpoint(all, "saved" + std::to_string(number));
    expect_same_states(all / ("saved" + std::to_string(number++)), all / "saved0");
  }
  number = 0;
  for (const auto& [name, way] : ways()) {
    SCOPED_TRACE("to " + name);
    EngineRun run(config_of(way), small_model());
    run.engine().load_checkpoint(all, "saved" + std::to_string((number + 1) % ways().size()));
    run.go_on_at(3);
    for (int micro = 0; micro < 3; ++micro) run.micro_step();
    run.engine().save_checkpoint(all, "end" + std::to_string(number));
    expect_same_states(all / ("end" + std::to_string(number++)), all / "end0");
    for (const tiering::Tier tier : tiering::kTiers) {
      EXPECT_EQ(run.engine().use(tier).peak, run.engine().plan().total.of(tier)) << name_of(tier);
    }
  }
}

}  // namespace
}  // namespace strata::promise::checkpoint_test
