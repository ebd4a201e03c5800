#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "generate_config.h"
#include "generated_text.h"
#include "generation_config.h"
#include "prompts.h"
#include "strata/base/error.h"
#include "strata/formats/safetensors.h"
#include "support/message_of.h"
#include "support/temp_directory.h"

namespace strata::tool::generate_inputs_test {
namespace {

using support::message_of;
using support::TempDirectory;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Tokens = std::vector<std::int64_t>;

class GenerateInputs : public ::testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const std::string& text) {
    const std::filesystem::path path = directory_.path() / name;
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  /// A model directory with these two files and a tensor.
  formats::ModelDirectory model(const std::string& config, const std::string& generation) {
    for (const char* name : {"generation_config.json", "model.safetensors"}) {
      std::filesystem::remove(directory_.path() / name);
    }
    write("config.json", config);
    if (!generation.empty()) write("generation_config.json", generation);
    formats::SafetensorsWriter out(directory_.path() / "model.safetensors",
                                   {{.name = "x", .dtype = formats::DType::kF32, .shape = {1}}});
    const float one = 1;
    out.append(std::as_bytes(std::span(&one, 1)));
    out.finish();
    return formats::ModelDirectory(directory_.path());
  }

  TempDirectory directory_;
};

TEST_F(GenerateInputs, ATextPromptIsALine) {
  const auto prompts = read_text_prompts(write("p.txt", "one two\r\n  three \nlast"));
  ASSERT_EQ(prompts.size(), 3u);
  EXPECT_EQ(prompts[0].text, "one two");
  EXPECT_EQ(prompts[1].text, "  three ");
  EXPECT_EQ(prompts[2].text, "last");
  EXPECT_THAT(prompts[2].where, HasSubstr("p.txt:3"));
}

TEST_F(GenerateInputs, IdsAreSeparatedBySpacesTabsAndCommas) {
  const auto prompts = read_token_prompts(write("p.ids", "1 2,3\n\t40, 5 \n"));
  ASSERT_EQ(prompts.size(), 2u);
  EXPECT_THAT(prompts[0].tokens, ElementsAre(1, 2, 3));
  EXPECT_THAT(prompts[1].tokens, ElementsAre(40, 5));
}

TEST_F(GenerateInputs, BadLinesAreRefusedByNumber) {
  const auto message = [&](const std::string& text) {
    return message_of<DataError>([&] { (void)read_token_prompts(write("p.ids", text)); });
  };
  EXPECT_THAT(message("1 2\n3 x4\n"), ::testing::AllOf(HasSubstr("p.ids:2"), HasSubstr("\"x4\"")));
  EXPECT_THAT(message("1\n-2\n"), HasSubstr("p.ids:2"));
  EXPECT_THAT(message("1\n\n2\n"), HasSubstr("p.ids:2"));
  EXPECT_THAT(message("99999999999999999999\n"), HasSubstr("p.ids:1"));
  EXPECT_THAT(message(""), HasSubstr("is empty"));
  EXPECT_THROW((void)read_text_prompts("/nowhere/p.txt"), IoError);
}

TEST_F(GenerateInputs, PromptsMustFitTheModel) {
  const auto check = [](Tokens tokens) {
    return message_of<DataError>([&] {
      check_prompts({{.where = "here:7", .text = "", .tokens = std::move(tokens)}}, 10, 4);
    });
  };
  EXPECT_THAT(check({}), HasSubstr("here:7"));
  EXPECT_THAT(check({1, 2, 3, 4}), HasSubstr("context of 4"));
  EXPECT_THAT(check({1, 10}), HasSubstr("vocabulary of 10"));
  check_prompts({{.where = "", .text = "", .tokens = {1, 2, 9}}}, 10, 4);
}

TEST_F(GenerateInputs, StopTokensAreThoseOfTheGenerationConfigElseOfTheConfig) {
  const std::string config = R"({"model_type": "llama", "eos_token_id": 5})";
  EXPECT_THAT(read_generation_config(model(config, "")).stop_tokens, ElementsAre(5));
  EXPECT_THAT(read_generation_config(model(config, "{}")).stop_tokens, ElementsAre(5));
  EXPECT_THAT(read_generation_config(model(config, R"({"eos_token_id": [3, 4]})")).stop_tokens,
              ElementsAre(3, 4));
  EXPECT_THAT(read_generation_config(model("{}", R"({"eos_token_id": null})")).stop_tokens,
              IsEmpty());
}

TEST_F(GenerateInputs, WhatIsNotFollowedIsNamed) {
  const auto read = read_generation_config(model("{}", R"({"repetition_penalty": 1.1,
      "num_beams": 1, "do_sample": true, "temperature": 0.6, "top_k": 20, "stop_strings": ["x"]})"));
  EXPECT_THAT(read.not_followed, ElementsAre("repetition_penalty", "stop_strings"));
  EXPECT_THAT(read.proposed, ElementsAre("temperature 0.6", "top_k 20"));
}

TEST(GenerateConfig, ComputesInTheFormatOfTheModelAndPlacesWeightsWhereTheyAreWanted) {
  GenerateOptions options;
  EXPECT_EQ(generate_config(options, "{}").precision(), Precision::kFp32);
  EXPECT_EQ(generate_config(options, R"({"dtype": "bfloat16"})").precision(), Precision::kBf16);
  EXPECT_EQ(generate_config(options, R"({"torch_dtype": "float16"})").precision(),
            Precision::kFp16);
  EXPECT_EQ(generate_config(options, "{}").zero.offload_param.device, formats::OffloadDevice::kCpu);
  options.nvme = {"/d"};
  options.budget = "host=1GiB";
  const formats::DsConfig config = generate_config(options, "{}");
  EXPECT_EQ(config.zero.offload_param.device, formats::OffloadDevice::kNvme);
  EXPECT_EQ(config.strata.host_budget_bytes, 1u << 30);
  EXPECT_THAT(config.nvme_directories(), ElementsAre("/d"));
}

TEST(GenerateConfig, AKeyValueBudgetIsASize) {
  GenerateOptions options;
  EXPECT_FALSE(kv_budget(options));
  options.kv_budget = "2MiB";
  EXPECT_EQ(kv_budget(options), 2u << 20);
  for (const char* bad : {"0", "much", "-1GiB"}) {
    options.kv_budget = bad;
    EXPECT_THROW((void)kv_budget(options), ConfigError) << bad;
  }
}

TEST(GeneratedText, IsShownWithoutACharacterThatIsNotWhole) {
  EXPECT_EQ(new_part("abc\xEF\xBF\xBD", 1), "bc");
  EXPECT_EQ(new_part("abc", 3), "");
  EXPECT_EQ(new_part("\xEF\xBF\xBD", 0), "");
}

TEST(GeneratedText, IsALineOfJson) {
  const Prompt prompt{.where = "", .text = "a\nb", .tokens = {1, 2}};
  const Tokens tokens = {3};
  const std::string line = json_line({prompt, tokens, "c", "eos"}, /*has_text=*/true);
  EXPECT_EQ(std::ranges::count(line, '\n'), 1);
  const auto json = nlohmann::json::parse(line);
  EXPECT_EQ(json["prompt"], "a\nb");
  EXPECT_EQ(json["text"], "c");
  EXPECT_EQ(json["tokens"], Tokens({3}));
  EXPECT_EQ(json["finish_reason"], "eos");
  EXPECT_FALSE(
      nlohmann::json::parse(json_line({prompt, tokens, "", "eos"}, false)).contains("text"));
}

}  // namespace
}  // namespace strata::tool::generate_inputs_test
