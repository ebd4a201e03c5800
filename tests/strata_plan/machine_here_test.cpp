#include "machine_here.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "interruption.h"
#include "plan.h"
#include "run_plan.h"
#include "strata/base/error.h"
#include "support/message_of.h"
#include "support/temp_directory.h"

namespace strata::tool::machine_here_test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::MatchesRegex;

constexpr double kFlops = 3e11;

/// Takes milliseconds.
MeasuringEffort little() {
  return {.disk = {.file_bytes = 8_MiB,
                   .operation_bytes = 64_KiB,
                   .operations = 8,
                   .turn_bytes = 256_KiB,
                   .time = std::chrono::milliseconds(5),
                   .settling = std::chrono::milliseconds(5)},
          .update_bytes = 4_MiB,
          .copy_bytes = 1_MiB,
          .time = std::chrono::milliseconds(1)};
}

zero3::SourcedNumber arithmetic(const ArithmeticTask& task, const Check& check) {
  check();
  return {kFlops, std::to_string(task.micro_batch.length) + " tokens in " +
                      std::string(name_of(task.precision))};
}

class MachineHere : public testing::Test {
 protected:
  formats::DsConfig config(const std::string& device, const std::string& more = "") {
    auto config = formats::DsConfig::from_text(
        R"({"train_micro_batch_size_per_gpu": 2, "bf16": {"enabled": true}, )" + more +
            R"("zero_optimization": {"offload_param": {"device": ")" + device +
            R"("}, "offload_optimizer": {"device": ")" + device + R"("}}})",
        "ds_config.json");
    if (device == "nvme") config.strata.nvme_directories = {nvme_.path().string()};
    config.resolve_batch(1);
    return config;
  }
  zero3::Machine measure(
      const formats::DsConfig& config, const Check& check = [] {}) {
    const models::Gpt2Config model = models::Gpt2Config::preset("gpt-lite");
    return machine_here(
        {.config = config, .model = model, .micro_batch = {.sequences = 2, .length = 64}},
        arithmetic, check, log_, little());
  }
  static Measuring measuring(const MeasureArithmetic& measure = arithmetic) {
    return {.arithmetic = measure, .effort = little()};
  }

  support::TempDirectory nvme_, files_;
  std::ostringstream log_text_;
  Logger log_{log_text_};
};

TEST_F(MachineHere, EveryNumberSaysHowAndWhenItWasMeasured) {
  const zero3::Machine machine = measure(config("nvme"));
  const json numbers = json::parse(machine.to_text());
  std::size_t count = 0;
  for (const auto& [section, keys] : numbers.items()) {
    if (section == "name") continue;
    for (const auto& [key, number] : keys.items()) {
      ++count;
      EXPECT_THAT(number["source"].get<std::string>(),
                  MatchesRegex("measured here, 20[0-9-]{8}: ..+"))
          << section << '.' << key;
    }
  }
  EXPECT_EQ(count, 13u);
  EXPECT_EQ(machine.compute.value, kFlops);
  EXPECT_THAT(machine.compute.source, HasSubstr("64 tokens in bf16"));
  EXPECT_THAT(machine.update.source, HasSubstr("bf16 states with fp32 moments"));
  EXPECT_THAT(machine.disk_read->source, HasSubstr(nvme_.path().string()));
  EXPECT_GT(machine.disk_write->value, 0);
  EXPECT_FALSE(machine.has_accelerator());
}

TEST_F(MachineHere, WhatWasMeasuredIsReadBackFromItsFile) {
  const zero3::Machine machine = measure(config("nvme"));
  EXPECT_EQ(zero3::Machine::from_text(machine.to_text(), "machine.json"), machine);
}

TEST_F(MachineHere, AConfigWithoutDirectoriesHasNoDisk) {
  EXPECT_EQ(measure(config("cpu")).disks(), 0);
}

TEST_F(MachineHere, TheUpdateIsThatOfTheRunsFormats) {
  const zero3::Machine machine =
      measure(config("cpu", R"("strata": {"states": {"moments": "int8"}, "threads": 1}, )"));
  EXPECT_THAT(machine.update.source, HasSubstr("int8 moments, 1 thread"));
}

TEST_F(MachineHere, RefusesStatesOnNvmeWithoutADirectoryAndDirectoriesThatCannotBeUsed) {
  formats::DsConfig without = config("nvme");
  without.strata.nvme_directories.clear();
  EXPECT_THAT(support::message_of<ConfigError>([&] { (void)measure(without); }),
              HasSubstr("--nvme"));
  formats::DsConfig missing = config("nvme");
  missing.strata.nvme_directories = {(nvme_.path() / "no" / "such").string()};
  EXPECT_THAT(support::message_of<Error>([&] { (void)measure(missing); }), HasSubstr("no/such"));
}

TEST_F(MachineHere, AnInterruptionAtAnyPointLeavesNothingBehind) {
  int all = 0;
  (void)measure(config("nvme"), [&] { ++all; });
  // How often it asks depends on the machine; a quarter of the way is within every run of it.
  for (const int when : {1, 2, all / 8, all / 4}) {
    int calls = 0;
    const auto check = [&] {
      if (++calls >= when) throw Interrupted("interrupted (SIGINT)");
    };
    EXPECT_THROW((void)measure(config("nvme"), check), Interrupted) << when;
    EXPECT_TRUE(std::filesystem::is_empty(nvme_.path()));
  }
}

TEST_F(MachineHere, APlanIsTheSameFromWhatIsMeasuredAndFromTheFileOfIt) {
  const std::string file = (files_.path() / "machine.json").string();
  const std::string nvme = nvme_.path().string();
  const PlanOutcome measured = run_plan({"--preset", "gpt-lite", "--machine", "here", "--nvme",
                                         nvme, "--save-machine", file, "--json"},
                                        measuring());
  const PlanOutcome read =
      run_plan({"--preset", "gpt-lite", "--machine", file, "--nvme", nvme, "--json"});
  EXPECT_EQ(measured.code, ExitCode::kDone);
  EXPECT_EQ(read.code, ExitCode::kDone);
  EXPECT_EQ(measured.text, read.text);
  EXPECT_THAT(read.parsed()["machine"]["disk.read"]["source"].get<std::string>(),
              HasSubstr("measured here"));
}

TEST_F(MachineHere, AMeasurementThatFailsWritesNoMachineFile) {
  const auto fail = [](const ArithmeticTask&, const Check&) -> zero3::SourcedNumber {
    throw Interrupted("interrupted (SIGINT)");
  };
  EXPECT_THROW((void)run_plan({"--preset", "gpt-lite", "--machine", "here", "--save-machine",
                               (files_.path() / "machine.json").string()},
                              measuring(fail)),
               Interrupted);
  EXPECT_TRUE(std::filesystem::is_empty(files_.path()));
}

TEST_F(MachineHere, OnlyWhatIsMeasuredCanBeSaved) {
  EXPECT_THAT(support::message_of<ConfigError>([&] {
                (void)run_plan({"--preset", "gpt-lite", "--machine", "a.json", "--save-machine",
                                (files_.path() / "b.json").string()},
                               measuring());
              }),
              AllOf(HasSubstr("--save-machine"), HasSubstr("--machine here")));
}

}  // namespace
}  // namespace strata::tool::machine_here_test
