#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "promise/in_memory_loop.h"
#include "promise/training_run.h"
#include "strata/base/error.h"
#include "strata/optim_cpu/instruction_set.h"

/// \file
/// Promise 1 for every optimizer and every format of states: without random rounding offloaded
/// training gives the bits of an in-memory loop, and with it, placement, backend, windows and
/// threads change no bit.

namespace strata::promise::state_formats_test {
namespace {

using formats::OffloadDevice;
using formats::OptimizerType;
using formats::StatesConfig;

constexpr int kSteps = 4;

constexpr StatesConfig kBf16Moments{MomentFormat::kBf16, MasterFormat::kFp32};
constexpr StatesConfig kInt8Moments{MomentFormat::kInt8, MasterFormat::kFp32};
constexpr StatesConfig k24BitMaster{MomentFormat::kFp32, MasterFormat::k24Bit};
constexpr StatesConfig kSmallest{MomentFormat::kInt8, MasterFormat::k24Bit};

std::string name_of_training(const testing::TestParamInfo<Training>& tested) {
  return tested.param.name;
}

std::vector<Training> without_random_rounding() {
  std::vector<Training> all;
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    const auto add = [&](const char* name, const formats::OptimizerConfig& optimizer) {
      all.push_back({.name = std::string(name) + "_" + std::string(name_of(precision)),
                     .precision = precision,
                     .optimizer = optimizer});
    };
    add("adam_l2", optimizer_of(OptimizerType::kAdam));
    add("sgd", optimizer_of(OptimizerType::kSgd, /*momentum=*/0.0));
    add("sgd_nesterov", optimizer_of(OptimizerType::kSgd));
    add("adagrad", optimizer_of(OptimizerType::kAdagrad));
    add("lion", optimizer_of(OptimizerType::kLion));
  }
  return all;
}

class InMemoryBitsOfOptimizers : public testing::TestWithParam<Training> {};

TEST_P(InMemoryBitsOfOptimizers, EverythingOnNvmeEqualsTheInMemoryLoop) {
  ScratchDirectory scratch;
  expect_bits_of_in_memory_loop(nvme_config(scratch.path(), GetParam()), small_model(), kSteps);
}

INSTANTIATE_TEST_SUITE_P(Optimizers, InMemoryBitsOfOptimizers,
                         testing::ValuesIn(without_random_rounding()), name_of_training);

std::vector<Training> with_random_rounding() {
  const formats::OptimizerConfig adamw = optimizer_of(OptimizerType::kAdamW);
  return {
      {.name = "adamw_bf16_moments", .states = kBf16Moments, .optimizer = adamw},
      {.name = "adamw_int8_moments", .states = kInt8Moments, .optimizer = adamw},
      {.name = "adamw_24bit_master", .states = k24BitMaster, .optimizer = adamw},
      {.name = "adamw_24bit_master_int8_moments", .states = kSmallest, .optimizer = adamw},
      {.name = "adamw_fp32_int8_moments",
       .precision = Precision::kFp32,
       .states = kInt8Moments,
       .optimizer = adamw},
      {.name = "adamw_fp32_bf16_moments",
       .precision = Precision::kFp32,
       .states = kBf16Moments,
       .optimizer = adamw},
      {.name = "sgd_nesterov_smallest",
       .states = kSmallest,
       .optimizer = optimizer_of(OptimizerType::kSgd)},
      {.name = "sgd_24bit_master",
       .states = k24BitMaster,
       .optimizer = optimizer_of(OptimizerType::kSgd, /*momentum=*/0.0)},
      {.name = "adagrad_smallest",
       .states = kSmallest,
       .optimizer = optimizer_of(OptimizerType::kAdagrad)},
      {.name = "lion_bf16_moments",
       .states = kBf16Moments,
       .optimizer = optimizer_of(OptimizerType::kLion)},
      {.name = "lion_smallest",
       .states = kSmallest,
       .optimizer = optimizer_of(OptimizerType::kLion)},
  };
}

/// Ways to run the same job: a name, and what is changed in the config.
std::vector<std::pair<std::string, std::function<void(formats::DsConfig&)>>> ways() {
  return {
      {"in memory, on one thread",
       [](formats::DsConfig& config) {
         config.zero.offload_param.device = OffloadDevice::kNone;
         config.zero.offload_optimizer.device = OffloadDevice::kCpu;
         config.strata.threads = 1;
       }},
      {"states on nvme alone, large chunks, the threads backend",
       [](formats::DsConfig& config) {
         config.zero.offload_param.device = OffloadDevice::kCpu;
         config.strata.chunk_bytes = 1u << 20;
         config.strata.io = IoBackend::kThreads;
       }},
      {"weights on nvme alone, three threads",
       [](formats::DsConfig& config) {
         config.zero.offload_optimizer.device = OffloadDevice::kCpu;
         config.strata.threads = 3;
       }},
      {"the smallest windows, io_uring",
       [](formats::DsConfig& config) {
         config.strata.window_elements = 1;
         config.strata.io = IoBackend::kIoUring;
       }},
      {"the least host memory",
       [](formats::DsConfig& config) {
         zero3::PlanInput input = zero3::plan_input_from(config);
         input.units = models::unit_layouts(small_model());
         config.strata.host_budget_bytes = zero3::smallest_budgets(input).host;
       }},
      {"half of the states in host memory",
       [](formats::DsConfig& config) {
         zero3::PlanInput input = zero3::plan_input_from(config);
         input.units = models::unit_layouts(small_model());
         config.strata.host_budget_bytes = host_budget_that_keeps(input, 50);
       }},
  };
}

class PlacementOfFormats : public testing::TestWithParam<Training> {};

TEST_P(PlacementOfFormats, ChangesNoBit) {
  const auto train = [&](const std::function<void(formats::DsConfig&)>& change) {
    ScratchDirectory scratch;
    formats::DsConfig config = nvme_config(scratch.path(), GetParam(), /*accumulation=*/2);
    change(config);
    EngineRun run(config, small_model());
    for (int step = 0; step < kSteps; ++step) run.step();
    return run.parameters();
  };
  const Parameters expected = train([](auto&) {});
  for (const auto& [name, change] : ways()) {
    SCOPED_TRACE(name);
    expect_equal_bits(train(change), expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, PlacementOfFormats, testing::ValuesIn(with_random_rounding()),
                         name_of_training);

TEST(InstructionSets, AreForcedByTheConfigAndChangeNoBit) {
  const Training training{
      .name = "smallest", .states = kSmallest, .optimizer = optimizer_of(OptimizerType::kAdamW)};
  const std::vector<std::string_view> targets = optim_cpu::InstructionSet::names();
  ASSERT_EQ(targets.back(), "SCALAR");
  const std::string_view best = optim_cpu::InstructionSet().name();
  std::optional<Parameters> expected;
  for (const std::string_view target : targets) {
    SCOPED_TRACE(target);
    ScratchDirectory scratch;
    formats::DsConfig config = nvme_config(scratch.path(), training);
    config.strata.simd = target;
    EngineRun run(config, small_model());
    EXPECT_EQ(optim_cpu::InstructionSet().name(), best) << "it is this engine's alone";
    for (int step = 0; step < kSteps; ++step) run.step();
    if (!expected) expected = run.parameters();
    expect_equal_bits(run.parameters(), *expected);
  }
}

TEST(InstructionSets, AnUnknownOneIsRefusedWithThoseOfTheMachine) {
  ScratchDirectory scratch;
  formats::DsConfig config = nvme_config(scratch.path(), Precision::kBf16);
  config.strata.simd = "MMX";
  try {
    Engine engine(config);
    ADD_FAILURE() << "accepted";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("MMX"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("SCALAR"), std::string::npos) << error.what();
  }
}

TEST(StateFormats, DifferFromFp32StatesAndFromOneAnother) {
  std::vector<std::pair<std::string, Parameters>> runs;
  std::vector<Training> trainings = with_random_rounding();
  std::erase_if(trainings, [](const Training& each) {
    return each.precision != Precision::kBf16 || each.optimizer.type != OptimizerType::kAdamW;
  });
  trainings.push_back({.name = "fp32", .optimizer = optimizer_of(OptimizerType::kAdamW)});
  for (const Training& training : trainings) {
    ScratchDirectory scratch;
    EngineRun run(nvme_config(scratch.path(), training), small_model());
    for (int step = 0; step < kSteps; ++step) run.step();
    for (const auto& [name, others] : runs) {
      bool equal = true;
      for (const auto& [parameter, value] : run.parameters()) {
        equal = equal && torch::equal(value, others.at(parameter));
      }
      EXPECT_FALSE(equal) << training.name << " and " << name;
    }
    runs.emplace_back(training.name, run.parameters());
  }
}

}  // namespace
}  // namespace strata::promise::state_formats_test
