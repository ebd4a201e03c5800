#include "strata/models/lora_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/small_llama.h"
#include "models/small_neox.h"
#include "strata/base/error.h"
#include "strata/models/gpt2_config.h"
#include "strata/models/lora.h"
#include "strata/models/model_layout.h"
#include "support/message_of.h"

namespace strata::models::lora_config_test {
namespace {

using support::message_of;
using testing::ElementsAre;
using testing::HasSubstr;

LoraConfig read(std::string_view option) { return LoraConfig::from_option(option, "--lora"); }

std::string refusal_of(std::string_view option) {
  return message_of<ConfigError>([&] { (void)read(option); });
}

std::string refusal_of_json(const std::string& keys) {
  const std::string text = R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8,
                               "target_modules": ["q_proj"])" +
                           keys + "}";
  return message_of<ConfigError>([&] { (void)LoraConfig::from_json(text, "a.json"); });
}

TEST(LoraConfig, IsReadFromAnOption) {
  const LoraConfig lora = read("r=16,alpha=32,dropout=0.05,targets=q_proj+v_proj");
  EXPECT_EQ(lora.rank, 16);
  EXPECT_EQ(lora.alpha, 32);
  EXPECT_EQ(lora.scale(), 2);
  EXPECT_EQ(lora.dropout, 0.05);
  EXPECT_THAT(lora.targets, ElementsAre("q_proj", "v_proj"));
  EXPECT_EQ(read("r=4").scale(), 1);
}

TEST(LoraConfig, AnOptionThatSaysNothingClearIsRefused) {
  EXPECT_THAT(refusal_of(""), HasSubstr("r=16,alpha=32"));
  EXPECT_THAT(refusal_of("alpha=3"), HasSubstr("has no r"));
  EXPECT_THAT(refusal_of("r=4,rank=5"), HasSubstr("\"rank=5\" is none of"));
  EXPECT_THAT(refusal_of("r=4,r=5"), HasSubstr("r is given twice"));
  EXPECT_THAT(refusal_of("r=4.5"), HasSubstr("\"4.5\" is no whole number"));
  EXPECT_THAT(refusal_of("r=0"), HasSubstr("r is 0"));
  EXPECT_THAT(refusal_of("r=4,alpha=x"), HasSubstr("\"x\" is no number"));
  EXPECT_THAT(refusal_of("r=4,alpha=-1"), HasSubstr("alpha"));
  EXPECT_THAT(refusal_of("r=4,alpha=nan"), HasSubstr("alpha"));
  EXPECT_THAT(refusal_of("r=4,dropout=1"), HasSubstr("dropout"));
  EXPECT_THAT(refusal_of("r=4,targets=q_proj+"), HasSubstr("a target has no name"));
}

TEST(LoraConfig, WrittenForPeftIsReadBack) {
  LoraConfig lora = read("r=3,alpha=4.5,dropout=0.25,targets=a+b.c");
  EXPECT_EQ(LoraConfig::from_json(lora.to_json("the base"), "a.json"), lora);
  EXPECT_THAT(lora.to_json("the base"), HasSubstr(R"("base_model_name_or_path": "the base")"));
  lora.alpha = 32;
  EXPECT_THAT(lora.to_json(""), HasSubstr("\"lora_alpha\": 32,"));
}

TEST(LoraConfig, WhatPeftComputesOtherwiseIsRefusedByItsKey) {
  EXPECT_EQ(refusal_of_json(R"(, "use_dora": false, "bias": "none", "rank_pattern": {},
                              "init_lora_weights": true, "qalora_group_size": 16)"),
            support::kNothingThrown);
  for (const char* key : {"use_dora", "use_rslora", "fan_in_fan_out", "something_new"}) {
    EXPECT_THAT(refusal_of_json(", \"" + std::string(key) + "\": true"), HasSubstr(key));
  }
  EXPECT_THAT(refusal_of_json(R"(, "bias": "all")"), HasSubstr("bias"));
  EXPECT_THAT(refusal_of_json(R"(, "rank_pattern": {"q_proj": 2})"), HasSubstr("rank_pattern"));
  EXPECT_THAT(refusal_of_json(R"(, "modules_to_save": ["lm_head"])"), HasSubstr("modules_to_save"));
  EXPECT_THAT(refusal_of_json(R"(, "init_lora_weights": "pissa")"), HasSubstr("init_lora_weights"));
  EXPECT_THAT(message_of<ConfigError>(
                  [] { (void)LoraConfig::from_json(R"({"peft_type": "IA3"})", "a.json"); }),
              HasSubstr("a.json:1: peft_type"));
  EXPECT_THAT(message_of<ConfigError>([] {
                (void)LoraConfig::from_json(
                    R"({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ".*q"})",
                    "a.json");
              }),
              HasSubstr("target_modules"));
}

TEST(WithLora, TargetsAreThePeftsOwnUnlessTheyAreNamed) {
  const auto targets = [](const ModelConfig& config, const char* option) {
    return lora_of(with_lora(config, read(option), "--lora"))->targets;
  };
  EXPECT_THAT(targets(small_llama(), "r=2"), ElementsAre("q_proj", "v_proj"));
  EXPECT_THAT(targets(small_phi3(), "r=2"), ElementsAre("qkv_proj"));
  EXPECT_THAT(targets(small_neox(), "r=2"), ElementsAre("query_key_value"));
  EXPECT_THAT(
      targets(small_llama(), "r=2,targets=all-linear"),
      ElementsAre("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"));
  EXPECT_THAT(targets(small_mixtral(), "r=2,targets=all-linear"),
              ElementsAre("k_proj", "o_proj", "q_proj", "v_proj"));
  EXPECT_THAT(targets(small_llama(), "r=2,targets=mlp.up_proj"), ElementsAre("mlp.up_proj"));
}

TEST(WithLora, AFullNameIsOneLayersAlone) {
  const LoraConfig lora = read("r=2,targets=model.layers.1.mlp.up_proj");
  std::vector<std::string> adapters;
  for (const zero3::UnitLayout& unit : unit_layouts(with_lora(small_llama(), lora, "--lora"))) {
    for (const zero3::ParameterLayout& parameter : unit.parameters) {
      if (parameter.trainable) adapters.push_back(unit.full_name(parameter));
    }
  }
  EXPECT_THAT(adapters, ElementsAre("model.layers.1.mlp.up_proj.lora_A.weight",
                                    "model.layers.1.mlp.up_proj.lora_B.weight"));
}

TEST(WithLora, ATargetThatIsNotThereIsRefusedWithThoseThatAre) {
  const auto refusal = [](const ModelConfig& config, const char* option) {
    return message_of<ConfigError>([&] { (void)with_lora(config, read(option), "--lora"); });
  };
  EXPECT_THAT(refusal(small_llama(), "r=2,targets=q_proj+c_attn"),
              testing::AllOf(HasSubstr("--lora: \"c_attn\""), HasSubstr("self_attn.q_proj")));
  EXPECT_THAT(refusal(small_llama(), "r=2,targets=lm_head"), HasSubstr("\"lm_head\""));
  EXPECT_THAT(refusal(small_llama(), "r=2,targets=input_layernorm"), HasSubstr("input_layernorm"));
  for (const char* routed : {"w1", "gate"}) {
    EXPECT_THAT(refusal(small_mixtral(), (std::string("r=2,targets=") + routed).c_str()),
                HasSubstr("\"" + std::string(routed) + "\""));
  }
  // One block has it as its MLP's, the others as their experts'.
  EXPECT_THAT(refusal(small_qwen3_moe(), "r=2,targets=q_proj+up_proj"), HasSubstr("\"up_proj\""));
  EXPECT_THAT(refusal(Gpt2Config{}, "r=2"), HasSubstr("\"gpt2\" takes no adapters"));
}

TEST(WithLora, AdaptersAloneAreTrained) {
  const ModelConfig model = small_llama_with_all();
  const ModelConfig adapted = with_lora(model, read("r=3,targets=q_proj+down_proj"), "--lora");
  EXPECT_EQ(without_lora(adapted), model);
  std::uint64_t trained = 0;
  for (const zero3::UnitLayout& unit : unit_layouts(adapted, {"lora_?.weight"})) {
    for (const zero3::ParameterLayout& parameter : unit.parameters) {
      EXPECT_EQ(parameter.trainable, is_adapter_parameter(unit.full_name(parameter)));
      EXPECT_EQ(parameter.trainable, parameter.fp32);
      if (parameter.trainable) trained += parameter.count;
    }
  }
  // Blocks of width 16 with 24 elements of queries, and 20 inside the MLP.
  EXPECT_EQ(trained, 3u * (3 * (16 + 24) + 3 * (20 + 16)));
  EXPECT_EQ(parameter_count(adapted), parameter_count(model) + trained);
}

}  // namespace
}  // namespace strata::models::lora_config_test
