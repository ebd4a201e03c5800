#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "run_config.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "support/message_of.h"
#include "support/temp_directory.h"

namespace strata::tool::options_test {
namespace {

using support::TempDirectory;

TEST(BudgetOption, SetsWhatItNamesAndNothingElse) {
  formats::StrataConfig config;
  config.device_budget_bytes = 7;
  apply_budget_option("host=4GiB,nvme=60GiB", config);
  EXPECT_EQ(config.host_budget_bytes, 4_GiB);
  EXPECT_EQ(config.nvme_budget_bytes, 60_GiB);
  EXPECT_EQ(config.device_budget_bytes, 7u);
}

TEST(BudgetOption, RefusesWhatItCannotRead) {
  for (const char* text : {"", "host", "host=", "host=fast", "disk=1GiB", "host=1GiB,",
                           "host=1GiB,host=2GiB", "=1GiB", "host=-1"}) {
    formats::StrataConfig config;
    EXPECT_THROW(apply_budget_option(text, config), ConfigError) << text;
  }
}

TEST(TraceOption, NamesOneStepOrTheFirstAndTheLast) {
  EXPECT_EQ(parse_trace_option("steps=3-5"), (TraceSteps{3, 5}));
  EXPECT_EQ(parse_trace_option("steps=7"), (TraceSteps{7, 7}));
  EXPECT_EQ(parse_trace_option("steps=1-100"), (TraceSteps{1, 100}));
  const TraceSteps steps{3, 5};
  EXPECT_FALSE(steps.contains(2));
  EXPECT_TRUE(steps.contains(3) && steps.contains(5));
  EXPECT_FALSE(steps.contains(6));
}

TEST(TraceOption, RefusesWhatItCannotReadAndSaysWhatItCan) {
  for (const char* text : {"",
                           "steps",
                           "steps=",
                           "step=3",
                           "3-5",
                           "steps=0",
                           "steps=0-2",
                           "steps=-3",
                           "steps=3-",
                           "steps=-",
                           "steps=5-3",
                           "steps=3-5-7",
                           "steps=three",
                           "steps=3 - 5",
                           " steps=3",
                           "steps=3 ",
                           "steps=3,5",
                           "steps=1.5",
                           "steps=+3",
                           "steps=1-101",
                           "steps=99999999999999999999",
                           "steps=1-99999999999999999999",
                           "STEPS=3"}) {
    const std::string message =
        support::message_of<ConfigError>([&] { (void)parse_trace_option(text); });
    EXPECT_THAT(message, testing::HasSubstr("--trace: \"" + std::string(text) + "\""));
    EXPECT_THAT(message, testing::HasSubstr("steps=3-5"));
  }
}

TEST(TraceOption, NamesStepsThatTheRunMakes) {
  EXPECT_NO_THROW(require_traced_steps({3, 5}, 5));
  EXPECT_THAT(support::message_of<ConfigError>([] {
                require_traced_steps({3, 5}, 4);
              }),
              testing::AllOf(testing::HasSubstr("step 5"), testing::HasSubstr("from 1 to 4")));
}

class RunConfigTest : public testing::Test {
 protected:
  void write_config(const std::string& text) { options_.config = directory_.write("c.json", text); }

  TempDirectory directory_;
  FinetuneOptions options_;
};

TEST_F(RunConfigTest, TheCommandLineOverrulesTheConfig) {
  write_config(R"({"train_batch_size": 6, "train_micro_batch_size_per_gpu": 2,
                   "strata": {"budget": {"host": "1GiB", "nvme": "2GiB"}, "nvme": ["/config"]}})");
  options_.budget = "host=3GiB";
  options_.nvme = {"/a", "/b"};
  const formats::DsConfig config = run_config(options_);
  EXPECT_EQ(config.strata.host_budget_bytes, 3_GiB);
  EXPECT_EQ(config.strata.nvme_budget_bytes, 2_GiB);
  EXPECT_EQ(config.nvme_directories(), (std::vector<std::string>{"/a", "/b"}));
  EXPECT_EQ(config.gradient_accumulation_steps, 3);
}

TEST_F(RunConfigTest, NvmeNeedsADirectoryThatIsThereOrCanBeMade) {
  write_config(R"({"zero_optimization": {"offload_optimizer": {"device": "nvme"}}})");
  EXPECT_THROW(check_nvme_directories(run_config(options_)), ConfigError);
  options_.nvme = {directory_ / "missing/scratch"};
  EXPECT_THROW(check_nvme_directories(run_config(options_)), ConfigError);
  options_.nvme = {directory_.write("file", "")};
  EXPECT_THROW(check_nvme_directories(run_config(options_)), ConfigError);
  for (const char* name : {".", "missing", "missing/"}) {
    options_.nvme = {directory_ / name};
    EXPECT_NO_THROW(check_nvme_directories(run_config(options_))) << name;
  }
}

TEST_F(RunConfigTest, AnNvmeDirectoryIsNamedOnce) {
  write_config("{}");
  options_.nvme = {directory_ / "missing", directory_ / "other"};
  EXPECT_NO_THROW(check_nvme_directories(run_config(options_)));
  options_.nvme = {directory_ / "missing", directory_ / "missing"};
  EXPECT_THROW(check_nvme_directories(run_config(options_)), ConfigError);
  options_.nvme = {directory_ / ".", directory_ / ""};
  EXPECT_THROW(check_nvme_directories(run_config(options_)), ConfigError);
}

TEST_F(RunConfigTest, AMicroBatchFitsIntoTheMemoryOfTheMachine) {
  formats::DsConfig config;
  config.train_micro_batch_size_per_gpu = 4;
  EXPECT_NO_THROW(check_micro_batch(config, 8, 1_MiB, 32_MiB));
  EXPECT_THROW(check_micro_batch(config, 8, 1_MiB, 32_MiB - 1), ConfigError);
  config.train_micro_batch_size_per_gpu = INT32_MAX;
  EXPECT_THROW(check_micro_batch(config, INT32_MAX, UINT32_MAX, UINT64_MAX), ConfigError);
  EXPECT_GT(memory_bytes(), 64_MiB);
}

TEST_F(RunConfigTest, StepsComeFromTheOptionThenTheScheduleThenOneEpoch) {
  formats::DsConfig config;
  config.train_batch_size = 4;
  EXPECT_EQ(step_count(options_, config, 1001, 10), 26);
  config.scheduler.total_num_steps = 7;
  EXPECT_EQ(step_count(options_, config, 1001, 10), 7);
  options_.steps = 3;
  EXPECT_EQ(step_count(options_, config, 1001, 10), 3);
}

TEST_F(RunConfigTest, StepsFollowFromEpochsOfSequences) {
  formats::DsConfig config;
  config.train_batch_size = 4;
  EXPECT_EQ(step_count(options_, config, 1001, 10, 9), 3);
  EXPECT_EQ(last_epoch(options_, config), 1u);
  config.scheduler.total_num_steps = 7;
  EXPECT_EQ(step_count(options_, config, 1001, 10, 9), 7);
  EXPECT_FALSE(last_epoch(options_, config).has_value());
  options_.epochs = 3;
  EXPECT_EQ(step_count(options_, config, 1001, 10, 9), 7);
  options_.epochs = 4;
  EXPECT_EQ(step_count(options_, config, 1001, 10, 9), 9);
  EXPECT_EQ(last_epoch(options_, config), 4u);
  options_.epochs = std::numeric_limits<std::int64_t>::max();
  EXPECT_THROW((void)step_count(options_, config, 1001, 10, 9), ConfigError);
}

TEST(DataOptions, ShowOneSequenceOrAsManyAsTheySayAndChooseByTheirWords) {
  const auto parsed = [](std::vector<std::string> words) {
    CLI::App app;
    FinetuneOptions options;
    add_finetune_command(app, options);
    words.insert(words.begin(), "finetune");
    std::ranges::reverse(words);  // as CLI11 takes them
    app.parse(words);
    return options;
  };
  EXPECT_FALSE(parsed({}).show_batch.has_value());
  EXPECT_EQ(parsed({"--show-batch"}).show_batch, 1);
  EXPECT_EQ(parsed({"--show-batch", "--epochs", "2"}).show_batch, 1);
  EXPECT_EQ(parsed({"--show-batch", "3"}).show_batch, 3);
  EXPECT_EQ(parsed({"--show-batch=3"}).show_batch, 3);
  const FinetuneOptions chosen = parsed(
      {"--pack", "off", "--loss-on", "everything", "--order", "epochs", "--tokenizer", "bytes"});
  EXPECT_EQ(chosen.pack, false);
  EXPECT_EQ(chosen.loss_on, LossOn::kEverything);
  EXPECT_EQ(chosen.order, DataOrder::kEpochs);
  EXPECT_EQ(chosen.tokenizer, TextTokens::kBytes);
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"--show-batch", "0"},
                                             {"--show-batch", "x"},
                                             {"--pack", "maybe"},
                                             {"--loss-on", "x"},
                                             {"--epochs", "1", "--steps", "2"},
                                             {"--epochs", "0"}}) {
    EXPECT_THROW((void)parsed(words), CLI::ParseError) << words.back();
  }
}

TEST_F(RunConfigTest, TheSequenceFitsTheModelsContext) {
  EXPECT_EQ(sequence_length(options_, 256), 256);
  EXPECT_EQ(sequence_length(options_, 4096), 1024);
  options_.seq_len = 64;
  EXPECT_EQ(sequence_length(options_, 64), 64);
  EXPECT_THROW((void)sequence_length(options_, 63), ConfigError);
}

}  // namespace
}  // namespace strata::tool::options_test
