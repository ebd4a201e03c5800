#include "plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "plan_model.h"
#include "run_plan.h"
#include "strata/base/error.h"
#include "strata/formats/ds_config.h"
#include "strata/models/gpt2_layout.h"
#include "strata/zero3/plan.h"
#include "support/message_of.h"
#include "support/temp_directory.h"

namespace strata::tool::plan_test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

const std::string kMachines = STRATA_MACHINES;
const std::string kWorkstation = kMachines + "/workstation_24gb.json";
const std::string kServer = kMachines + "/server_8_h100.json";

std::string refusal(const std::vector<std::string>& arguments) {
  return support::message_of<Error>([&] { (void)run_plan(arguments); });
}

json find_change(const json& answer, const std::string& change) {
  for (const json& what_if : answer["what_if"]) {
    if (what_if["change"] == change) return what_if["answer"];
  }
  ADD_FAILURE() << "nothing is said of \"" << change << "\"";
  return {};
}

TEST(Plan, ATableForPeopleSaysWhatIsAsked) {
  const PlanOutcome outcome = run_plan({"--params", "7B", "--machine", kWorkstation});
  EXPECT_EQ(outcome.code, ExitCode::kDone);
  for (const char* words :
       {"parameters, 32 blocks of width", "It fits", "optimizer states", "serial", "overlapped",
        "tokens computes as long as the disks work", "steps until its rating", "one more disk",
        "8-bit moments", "data sheet of NVIDIA's GeForce RTX 4090", "activations"}) {
    EXPECT_THAT(outcome.text, HasSubstr(words));
  }
}

/// The answer for a model with these words about recomputation in its config.
json with_recompute(const std::string& recompute, const std::string& params) {
  const support::TempDirectory directory;
  const std::string config = directory
                                 .write("ds_config.json", R"({
    "bf16": {"enabled": true}, "train_micro_batch_size_per_gpu": 4,
    "zero_optimization": {"offload_param": {"device": "nvme", "nvme_path": "/mnt/nvme"},
                          "offload_optimizer": {"device": "nvme", "nvme_path": "/mnt/nvme"}},
    "strata": {"recompute": )" + recompute + "}}")
                                 .string();
  return run_plan({"--params", params, "--machine", kWorkstation, "--config", config, "--json"})
      .parsed();
}

TEST(Plan, RoomForActivationsIsInTheTiersAndNotBesideThem) {
  const json without = with_recompute("true", "1.3B");
  const json with = with_recompute(R"(true, "activations": {"host": "1GiB"})", "1.3B");
  const auto beside = [](const json& plan) {
    return plan["answer"]["estimated_activation_bytes"].get<std::uint64_t>();
  };
  // A line of 16-bit numbers for each token of 4 sequences and each block.
  const auto number = [](const json& value) { return value.get<std::uint64_t>(); };
  EXPECT_EQ(beside(without) - beside(with), number(with["model"]["blocks"]) *
                                                number(with["model"]["width"]) * 4 *
                                                number(with["sequence_length"]) * 2);
  EXPECT_THAT(with["answer"]["items"].dump(), HasSubstr(R"("what":"activations")"));
}

TEST(Plan, RecomputeAutoIsTheShorterStepThatFits) {
  const auto seconds = [](const json& plan) {
    return plan["answer"]["overlapped"]["seconds"].get<double>();
  };
  const json small = with_recompute("\"auto\"", "1.3B");
  EXPECT_FALSE(small["recompute"].get<bool>()) << "there is memory to keep activations";
  EXPECT_LT(seconds(small), seconds(with_recompute("true", "1.3B")));
  const json large = with_recompute("\"auto\"", "30B");
  EXPECT_TRUE(large["recompute"].get<bool>());
  EXPECT_EQ(large["answer"], with_recompute("true", "30B")["answer"]);
}

TEST(Plan, BytesAreThoseOfThePlanThatARunMakes) {
  const support::TempDirectory directory;
  const std::string config = directory
                                 .write("ds_config.json", R"({
    "bf16": {"enabled": true}, "train_micro_batch_size_per_gpu": 2,
    "zero_optimization": {"offload_param": {"device": "nvme", "nvme_path": "/mnt/nvme"},
                          "offload_optimizer": {"device": "nvme", "nvme_path": "/mnt/nvme"}},
    "strata": {"budget": {"host": "600MiB", "device": "400MiB"}}})")
                                 .string();
  const json answer =
      run_plan({"--preset", "gpt2", "--config", config, "--machine", kWorkstation, "--json"})
          .parsed()["answer"];
  auto input = zero3::plan_input_from(formats::DsConfig::from_file(config),
                                      models::unit_layouts(models::Gpt2Config::preset("gpt2")),
                                      {.device_memory_is_host = false});
  const zero3::Plan plan = zero3::make_plan(input);
  EXPECT_EQ(answer["bytes"]["device"], plan.total.device);
  EXPECT_EQ(answer["bytes"]["host"], plan.total.host);
  EXPECT_EQ(answer["bytes"]["nvme"], plan.total.nvme);
  std::uint64_t items = 0;
  for (const json& item : answer["items"]) items += item["bytes"].get<std::uint64_t>();
  EXPECT_EQ(items, plan.total.device + plan.total.host + plan.total.nvme);
}

TEST(Plan, WhatDoesNotFitIsMissingTierByTierAndTheBudgetsNamedDo) {
  const PlanOutcome outcome = run_plan(
      {"--params", "7B", "--machine", kWorkstation, "--budget", "device=8MiB,host=1MiB", "--json"});
  EXPECT_EQ(outcome.code, ExitCode::kBudget);
  const json answer = outcome.parsed()["answer"];
  EXPECT_FALSE(answer["fits"]);
  ASSERT_EQ(answer["missing"].size(), 2u);
  EXPECT_THAT(answer["missing"][0].get<std::string>(), HasSubstr("device: needs at least"));
  EXPECT_THAT(answer["missing"][1].get<std::string>(), HasSubstr("host: needs at least"));
  const auto bytes = [&](const char* tier) {
    return std::to_string(answer["smallest_budgets"][tier].get<std::uint64_t>());
  };
  const PlanOutcome smallest =
      run_plan({"--params", "7B", "--machine", kWorkstation, "--budget",
                "device=" + bytes("device") + ",host=" + bytes("host"), "--json"});
  EXPECT_EQ(smallest.code, ExitCode::kDone);
  EXPECT_THAT(run_plan({"--params", "1T", "--machine", kWorkstation}).text,
              AllOf(HasSubstr("It does not fit"), HasSubstr("nvme")));
}

TEST(Plan, AVocabularyThatTheDeviceHasNoRoomForIsCutIntoTiles) {
  const std::vector<std::string> question = {"--preset",   "gpt2",     "--machine",
                                             kWorkstation, "--budget", "device=40MiB"};
  EXPECT_THAT(run_plan(question).text, HasSubstr("tokens is cut into"));
  std::vector<std::string> as_json = question;
  as_json.push_back("--json");
  const json answer = run_plan(as_json).parsed()["answer"];
  EXPECT_TRUE(answer["fits"]);
  EXPECT_GT(answer["vocabulary_tiles"], 1);
  EXPECT_LE(answer["bytes"]["device"], std::uint64_t{40} << 20);
}

TEST(Plan, BlocksThatTheDeviceHasNoRoomForAreCutIntoTilesDownToTheSmallestBudgetThatIsNamed) {
  const auto question = [](const std::string& device) {
    return std::vector<std::string>{"--preset",   "gpt2",     "--machine",
                                    kWorkstation, "--budget", "device=" + device};
  };
  const auto answer_for = [&](const std::string& device) {
    std::vector<std::string> as_json = question(device);
    as_json.push_back("--json");
    return run_plan(as_json).parsed()["answer"];
  };
  EXPECT_THAT(run_plan(question("8MiB")).text,
              HasSubstr("the linear layers of each block are cut into"));
  const json answer = answer_for("8MiB");
  EXPECT_TRUE(answer["fits"]);
  EXPECT_GT(answer["block_tiles"], 4);
  EXPECT_LE(answer["bytes"]["device"], std::uint64_t{8} << 20);
  const json without_room = answer_for("1MiB");
  EXPECT_FALSE(without_room["fits"]);
  const std::uint64_t least = without_room["smallest_budgets"]["device"];
  EXPECT_TRUE(answer_for(std::to_string(least))["fits"]);
  EXPECT_FALSE(answer_for(std::to_string(least - 1))["fits"]);
  EXPECT_EQ(answer_for("100MiB")["block_tiles"], 1);
}

TEST(Plan, ChangesAreForecastAnew) {
  const json answer = run_plan({"--params", "30B", "--machine", kWorkstation, "--json"}).parsed();
  const double now = answer["answer"]["serial"]["seconds"];
  EXPECT_LT(find_change(answer, "one more disk")["serial"]["seconds"], now);
  const json bytes = find_change(answer, "8-bit moments");
  EXPECT_LT(bytes["serial"]["seconds"], now);
  EXPECT_LT(bytes["bytes"]["nvme"], answer["answer"]["bytes"]["nvme"]);
  const json in_host = find_change(answer, "optimizer states in host memory");
  EXPECT_LT(in_host["serial"]["seconds"], now);
  EXPECT_GT(in_host["bytes"]["host"], 10 * 30e9);
}

TEST(Plan, MoreMicroBatchesMoveNoMoreBytesAndKeepMoreActivations) {
  const json question =
      run_plan({"--params", "30B", "--machine", kWorkstation, "--seq-len", "512", "--json"})
          .parsed();
  const json& one = question["answer"];
  const json four = find_change(question, "4 times the micro-batches");
  EXPECT_GT(four["serial"]["seconds"], one["serial"]["seconds"]);
  EXPECT_GT(four["serial"]["tokens_per_second"],
            2 * one["serial"]["tokens_per_second"].get<double>());
  EXPECT_GT(four["estimated_activation_bytes"],
            2 * one["estimated_activation_bytes"].get<double>());
  const auto read = [](const json& answer) -> double {
    return answer["serial"]["lanes"]["disk read"]["amount"];
  };
  EXPECT_LT(read(four), 1.05 * read(one)) << "but for fp32 gradients without room in memory";

  // Sequences four times as long leave no room on the device for four of them.
  const json long_ones =
      run_plan({"--params", "30B", "--machine", kWorkstation, "--seq-len", "2048", "--json"})
          .parsed();
  EXPECT_FALSE(find_change(long_ones, "4 times the micro-batches")["fits"]);
}

TEST(Plan, AStepOfTheTokensThatHideTheDisksIsAsLongComputingAsMoving) {
  const json first = run_plan({"--params", "7B", "--machine", kWorkstation, "--json"}).parsed();
  const double hiding = first["answer"]["tokens_that_hide_disks"];
  const json& bound = first["answer"]["serial"]["bound"];
  const double tokens = first["answer"]["tokens_per_step"];
  EXPECT_NEAR(hiding, tokens * bound["disk"].get<double>() / bound["compute"].get<double>(),
              1e-6 * hiding);
}

TEST(Plan, RanksShareTheStatesAndNodesTheWork) {
  const json one = run_plan({"--params", "13B", "--machine", kServer, "--json"}).parsed();
  const json two =
      run_plan({"--params", "13B", "--machine", kServer, "--nodes", "2", "--json"}).parsed();
  EXPECT_EQ(one["ranks"], 8);
  EXPECT_EQ(two["ranks"], 16);
  EXPECT_NEAR(
      two["answer"]["bytes"]["nvme"].get<double>() / one["answer"]["bytes"]["nvme"].get<double>(),
      0.5, 0.01);
  EXPECT_GT(two["answer"]["serial"]["tokens_per_second"],
            1.5 * one["answer"]["serial"]["tokens_per_second"].get<double>());
}

TEST(Plan, UnitsAreUpdatedUnderBackwardWhereTheConfigAsksForIt) {
  const support::TempDirectory directory;
  const auto share = [&](const std::string& under_backward) {
    const std::string config =
        directory
            .write("ds_config.json",
                   R"({
      "bf16": {"enabled": true}, "train_micro_batch_size_per_gpu": 4,
      "strata": {"step_under_backward": )" +
                       under_backward +
                       R"(}, "zero_optimization": {"offload_param": {"device": "nvme"},
                                            "offload_optimizer": {"device": "nvme"}}})")
            .string();
    return run_plan({"--params", "7B", "--config", config, "--machine", kWorkstation, "--json"})
        .parsed()["answer"]["overlapped"]["early_share"]
        .get<double>();
  };
  EXPECT_EQ(share("false"), 0);
  EXPECT_GT(share("true"), 0);
}

TEST(Plan, EnduranceIsWhatTheDisksAreRatedForOverWhatAStepWrites) {
  const json answer = run_plan({"--params", "7B", "--machine", kWorkstation, "--json"}).parsed();
  const json& endurance = answer["answer"]["endurance"];
  const double written = answer["answer"]["serial"]["lanes"]["disk write"]["amount"];
  EXPECT_NEAR(endurance["bytes_written_per_step_and_disk"], written / 2, 1);
  EXPECT_NEAR(endurance["steps"], 1.2e15 / (written / 2), 1e-6 * 1.2e15 / written);
  EXPECT_NEAR(endurance["days_of_serial_steps"],
              endurance["steps"].get<double>() *
                  answer["answer"]["serial"]["seconds"].get<double>() / 86400,
              1e-3);
}

TEST(Plan, AMachineWithoutAcceleratorHasOneMemoryForBothTiers) {
  const support::TempDirectory directory;
  const std::string machine = directory
                                  .write("machine.json", R"({
    "name": "two cores", "device": {"compute": {"value": 1e11, "source": "assumed"}},
    "host": {"memory": {"value": 4e9, "source": "assumed"},
             "update": {"value": 60e9, "source": "assumed"},
             "copy": {"value": 8e9, "source": "assumed"}},
    "disk": {"read": {"value": 2e9, "source": "assumed"},
             "write": {"value": 2e9, "source": "assumed"}}})")
                                  .string();
  const json answer =
      run_plan({"--preset", "gpt2", "--machine", machine, "--seq-len", "128", "--json"})
          .parsed()["answer"];
  ASSERT_TRUE(answer["fits"]);
  EXPECT_LE(answer["bytes"]["device"].get<double>() + answer["bytes"]["host"].get<double>() +
                answer["estimated_activation_bytes"].get<double>(),
            0.9 * 4e9);
  EXPECT_EQ(answer["serial"]["bound"].count("update"), 0u);  // it counts with compute
}

TEST(Plan, ParametersBecomeThePublishedShapes) {
  struct Shape {
    double parameters;
    std::int64_t blocks, width;
  };
  for (const auto& [parameters, blocks, width] :
       {Shape{124e6, 12, 768}, Shape{6.7e9, 32, 4096}, Shape{13e9, 40, 5120},
        Shape{175e9, 96, 12288}, Shape{1e12, 128, 25600}}) {
    const models::Gpt2Config config = shape_of(parameters);
    EXPECT_EQ(config.n_layer, blocks) << parameters;
    EXPECT_NEAR(static_cast<double>(config.n_embd), static_cast<double>(width), 128) << parameters;
    EXPECT_NEAR(static_cast<double>(models::parameter_count(config)) / parameters, 1, 0.09);
    EXPECT_EQ(config.n_embd % config.n_head, 0);
  }
  EXPECT_THROW((void)shape_of(1e6), ConfigError);
}

TEST(Plan, WithoutAMachineItSaysHowToGetOne) {
  EXPECT_THAT(refusal({"--params", "7B"}),
              AllOf(HasSubstr("--machine here"), HasSubstr("configs/machines"),
                    HasSubstr("ds_nvme_bench")));
  EXPECT_THAT(refusal({"--machine", kWorkstation}), HasSubstr("--params"));
}

TEST(Plan, BadInputIsRefusedByName) {
  const support::TempDirectory directory;
  EXPECT_THAT(refusal({"--params", "much", "--machine", kWorkstation}), HasSubstr("much"));
  EXPECT_THAT(refusal({"--params", "7B", "--machine", "/no/machine.json"}),
              HasSubstr("/no/machine.json"));
  EXPECT_THAT(refusal({"--preset", "gpt2", "--machine", kWorkstation, "--seq-len", "4096"}),
              HasSubstr("--seq-len 4096"));
  EXPECT_THAT(refusal({"--preset", "gpt2", "--machine", kWorkstation, "--budget", "disk=1GiB"}),
              HasSubstr("--budget"));
  EXPECT_THAT(refusal({"--params", "7B", "--machine", kWorkstation, "--nodes", "2"}),
              HasSubstr("network.receive"));
  EXPECT_THAT(refusal({"--model-config", "/no/config.json", "--machine", kWorkstation}),
              HasSubstr("/no/config.json"));
  EXPECT_THAT(refusal({"--model", directory.path().string(), "--machine", kWorkstation}),
              HasSubstr(directory.path().string()));
  const std::string machine = directory
                                  .write("machine.json", R"({
    "name": "no disk", "device": {"compute": {"value": 1e11, "source": "assumed"}},
    "host": {"memory": {"value": 4e9, "source": "assumed"},
             "update": {"value": 60e9, "source": "assumed"},
             "copy": {"value": 8e9, "source": "assumed"}}})")
                                  .string();
  const std::string config = directory
                                 .write("ds_config.json", R"({
    "zero_optimization": {"offload_optimizer": {"device": "nvme"}}})")
                                 .string();
  EXPECT_THAT(refusal({"--preset", "gpt2", "--machine", machine, "--config", config}),
              AllOf(HasSubstr("ds_config.json"), HasSubstr("no disk")));
}

TEST(Plan, AModelConfigIsReadAsFinetuneReadsIt) {
  const support::TempDirectory directory;
  const std::string shape =
      directory.write("config.json", models::Gpt2Config::preset("gpt2").to_json("float32"))
          .string();
  const json answer =
      run_plan({"--model-config", shape, "--machine", kWorkstation, "--json"}).parsed();
  EXPECT_EQ(answer["model"]["parameters"], 124'439'808u);
}

}  // namespace
}  // namespace strata::tool::plan_test
