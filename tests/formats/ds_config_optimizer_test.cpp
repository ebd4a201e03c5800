#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "formats/parsed_config.h"
#include "strata/base/error.h"
#include "strata/formats/ds_config.h"

/// \file
/// Configs of optimizers, and of the formats that their states rest in.

namespace strata::formats::ds_config_optimizer_test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(DsConfigOptimizer, SgdHasTheParametersOfTorch) {
  const OptimizerConfig sgd = parse(R"({"optimizer": {"type": "SGD", "params": {"lr": 0.1,
      "momentum": 0.9, "dampening": 0, "weight_decay": 0.01, "nesterov": true}}})")
                                  .optimizer;
  EXPECT_EQ(sgd.type, OptimizerType::kSgd);
  EXPECT_EQ(sgd.lr, 0.1);
  EXPECT_EQ(sgd.momentum, 0.9);
  EXPECT_EQ(sgd.weight_decay, 0.01);
  EXPECT_TRUE(sgd.nesterov);
  const OptimizerConfig plain = parse(R"({"optimizer": {"type": "sgd"}})").optimizer;
  EXPECT_EQ(plain.lr, 1e-3);
  EXPECT_EQ(plain.momentum, 0.0);
  EXPECT_FALSE(plain.nesterov);
}

TEST(DsConfigOptimizer, AdagradHasDefaultsOfItsOwn) {
  const OptimizerConfig plain = parse(R"({"optimizer": {"type": "Adagrad"}})").optimizer;
  EXPECT_EQ(plain.type, OptimizerType::kAdagrad);
  EXPECT_EQ(plain.lr, 1e-2);
  EXPECT_EQ(plain.eps, 1e-10);
  EXPECT_EQ(plain.lr_decay, 0.0);
  const OptimizerConfig given = parse(R"({"optimizer": {"params": {"lr": 0.5, "eps": 1e-6,
      "lr_decay": 0.25, "initial_accumulator_value": 0}, "type": "adagrad"}})")
                                    .optimizer;
  EXPECT_EQ(given.lr, 0.5);
  EXPECT_EQ(given.eps, 1e-6);
  EXPECT_EQ(given.lr_decay, 0.25);
  const OptimizerConfig left_open =
      parse(R"({"optimizer": {"type": "Adagrad", "params": {"lr": "auto", "eps": "auto"}}})")
          .optimizer;
  EXPECT_EQ(left_open.lr, 5e-5);
  EXPECT_EQ(left_open.eps, 1e-10);
}

TEST(DsConfigOptimizer, LionHasDeepSpeedsDefaults) {
  const OptimizerConfig plain = parse(R"({"optimizer": {"type": "Lion"}})").optimizer;
  EXPECT_EQ(plain.type, OptimizerType::kLion);
  EXPECT_EQ(plain.lr, 1e-3);
  EXPECT_EQ(plain.beta1, 0.9);
  EXPECT_EQ(plain.beta2, 0.999);
  EXPECT_EQ(parse(R"({"optimizer": {"type": "Lion", "params": {"betas": [0.95, 0.98]}}})")
                .optimizer.beta2,
            0.98);
}

TEST(DsConfigOptimizer, FormatsAndMomentsFollowTheConfig) {
  const StateFormat plain = parse("{}").state_format();
  EXPECT_EQ(plain, StateFormat(Precision::kFp32));

  StateFormat small = Precision::kBf16;
  small.moments = MomentFormat::kInt8;
  small.master = MasterFormat::k24Bit;
  EXPECT_EQ(parse(R"({"strata": {"states": {"moments": "int8", "master": "24bit"}},
                      "bf16": {"enabled": true}})")
                .state_format(),
            small);
  EXPECT_EQ(parse(R"({"strata": {"states": {"moments": "bf16", "master": "fp32"}}})")
                .state_format()
                .moments,
            MomentFormat::kBf16);

  struct Kept {
    std::string_view optimizer;
    bool m, v;
  };
  for (const auto& [optimizer, m, v] : {
           Kept{R"("type": "Adam")", true, true},
           Kept{R"("type": "AdamW")", true, true},
           Kept{R"("type": "SGD")", false, false},
           Kept{R"("type": "SGD", "params": {"momentum": 0.9})", true, false},
           Kept{R"("type": "Adagrad")", false, true},
           Kept{R"("type": "Lion")", true, false},
       }) {
    const StateFormat format =
        parse(R"({"optimizer": {)" + std::string(optimizer) + "}}").state_format();
    EXPECT_EQ(format.has_m, m) << optimizer;
    EXPECT_EQ(format.has_v, v) << optimizer;
  }
}

TEST(DsConfigOptimizer, TheTrainersNamesOfAdamWAreAdamWAndThoseOf8BitsHaveInt8Moments) {
  for (const std::string name : {"adamw_torch", "adamw_torch_fused"}) {
    const DsConfig config = parse(R"({"optimizer": {"type": ")" + name + R"("}})");
    EXPECT_EQ(config.optimizer.type, OptimizerType::kAdamW) << name;
    EXPECT_EQ(config.strata.states.moments, MomentFormat::kFp32) << name;
  }
  for (const std::string name :
       {"adamw_8bit", "AdamW_8bit", "adamw_bnb_8bit", "paged_adamw_8bit"}) {
    const DsConfig config =
        parse(R"({"optimizer": {"type": ")" + name + R"(", "params": {"eps": 1e-6}}})");
    EXPECT_EQ(config.optimizer.type, OptimizerType::kAdamW) << name;
    EXPECT_EQ(config.optimizer.eps, 1e-6) << name;
    EXPECT_EQ(config.strata.states.moments, MomentFormat::kInt8) << name;
    EXPECT_EQ(parse(config.resolved_json()), config) << config.resolved_json();
  }
  EXPECT_EQ(parse(R"({"strata": {"states": {"moments": "int8"}},
                      "optimizer": {"type": "adamw_8bit"}})")
                .strata.states.moments,
            MomentFormat::kInt8);
  EXPECT_EQ(parse(R"({"optimizer": {"type": "lion"}})").optimizer.type, OptimizerType::kLion);
}

TEST(DsConfigOptimizer, TheInstructionSetIsAWord) {
  EXPECT_EQ(parse("{}").strata.simd, "");
  EXPECT_EQ(parse(R"({"strata": {"simd": "AVX2"}})").strata.simd, "AVX2");
}

struct Mistake {
  std::string_view text;
  std::vector<std::string_view> words;
};

TEST(DsConfigOptimizer, EveryMistakeSaysWhereItIsAndWhatToWrite) {
  const std::vector<Mistake> mistakes = {
      {R"({"optimizer": {"type": "Lamb"}})", {"none of: Adam, AdamW, SGD, Adagrad, Lion"}},
      {R"({"optimizer": {"type": "Adagard"}})", {"did you mean \"Adagrad\"?"}},
      {R"({"optimizer": {"type": "SGD", "params": {"betas": [0.9, 0.99]}}})",
       {"optimizer.params.betas: is not a parameter of SGD"}},
      {R"({"optimizer": {"type": "Adagrad", "params": {"betas": [0.9, 0.99]}}})",
       {"is not a parameter of Adagrad"}},
      {R"({"optimizer": {"type": "SGD", "params": {"eps": 1e-8}}})", {"not a parameter of SGD"}},
      {R"({"optimizer": {"type": "Lion", "params": {"eps": 1e-8}}})", {"not a parameter of Lion"}},
      {R"({"optimizer": {"type": "Lion", "params": {"bias_correction": false}}})",
       {"not a parameter of Lion"}},
      {R"({"optimizer": {"type": "AdamW", "params": {"momentum": 0.9}}})",
       {"optimizer.params.momentum: is not a parameter of AdamW"}},
      {R"({"optimizer": {"params": {"nesterov": true}}})",
       {"is not a parameter of AdamW, which is the default"}},
      {R"({"optimizer": {"type": "SGD", "params": {"lr_decay": 0.1}}})",
       {"not a parameter of SGD"}},
      {R"({"optimizer": {"type": "SGD", "params": {"momentun": 0.9}}})",
       {"unknown key \"momentun\"", "did you mean \"momentum\"?"}},
      {R"({"optimizer": {"type": "SGD", "params": {"momentum": -1}}})", {"too small"}},
      {R"({"optimizer": {"type": "SGD", "params": {"nesterov": true}}})",
       {"optimizer.params.nesterov: takes a momentum above 0 and no dampening"}},
      {R"({"optimizer": {"type": "SGD", "params": {"nesterov": true, "momentum": 0.9,
                                                   "dampening": 0.1}}})",
       {"takes a momentum above 0 and no dampening"}},
      {R"({"optimizer": {"type": "Adagrad", "params": {"initial_accumulator_value": 0.1}}})",
       {"only 0 is supported", "begin at nothing"}},
      {R"({"optimizer": {"type": "adamw_8bit"}, "strata": {"states": {"moments": "fp32"}}})",
       {"strata.states.moments: optimizer.type adamw_8bit has moments of 8 bits"}},
      {R"({"strata": {"states": {"moments": "int4"}}})", {"\"int4\" is none of: fp32, bf16, int8"}},
      {R"({"strata": {"states": {"momemts": "int8"}}})", {"did you mean \"moments\"?"}},
      {R"({"strata": {"states": {"master": "bf16"}}})", {"is none of: fp32, 24bit"}},
      {R"({"strata": {"states": {"master": "24bit"}}})",
       {"strata.states.master: ", "bf16 is not enabled", "leave the master as \"fp32\""}},
      {R"({"strata": {"states": {"master": "24bit"}}, "fp16": {"enabled": true}})",
       {"bf16 is not enabled"}},
      {R"({"strata": {"simd": 2}})", {"expected a string"}},
      {R"({"bf16": {"enabled": true, "bf16_optimizer_states": true}})",
       {"\"states\": {\"moments\": \"bf16\"}"}},
  };
  for (const auto& [text, words] : mistakes) {
    const std::string message = error_of(text);
    EXPECT_THAT(message, StartsWith("ds.json:")) << text;
    for (const std::string_view word : words) {
      EXPECT_THAT(message, HasSubstr(std::string(word))) << text;
    }
  }
}

TEST(DsConfigOptimizer, IsPrintedAndReadBackToTheSameConfiguration) {
  for (const char* text :
       {R"({"optimizer": {"type": "SGD", "params": {"momentum": 0.9, "nesterov": true,
            "weight_decay": 0.1}}})",
        R"({"optimizer": {"type": "SGD", "params": {"momentum": 0.5, "dampening": 0.25}}})",
        R"({"optimizer": {"type": "Adagrad", "params": {"lr_decay": 0.1}}})",
        R"({"optimizer": {"type": "Lion", "params": {"betas": [0.95, 0.98], "lr": 1e-4}}})",
        R"({"strata": {"states": {"moments": "int8", "master": "24bit"}, "simd": "AVX2"},
            "bf16": {"enabled": true}})",
        R"({"strata": {"states": {"moments": "bf16"}}})"}) {
    const DsConfig config = parse(text);
    const std::string printed = config.resolved_json();
    EXPECT_EQ(parse(printed), config) << printed;
    EXPECT_EQ(parse(printed).resolved_json(), printed);
  }
}

TEST(DsConfigOptimizer, PrintsOnlyParametersOfItsOwn) {
  const std::string sgd = parse(R"({"optimizer": {"type": "SGD"}})").resolved_json();
  EXPECT_THAT(sgd, HasSubstr("\"momentum\": 0.0"));
  for (const char* other : {"betas", "\"eps\"", "bias_correction", "lr_decay", "accumulator"}) {
    EXPECT_THAT(sgd, Not(HasSubstr(other)));
  }
  EXPECT_THAT(parse("{}").resolved_json(), Not(HasSubstr("momentum")));
}

TEST(DsConfigOptimizer, AnElementOfTheWindowHasTheBytesOfItsFormats) {
  EXPECT_THAT(parse(R"({"bf16": {"enabled": true}, "zero_optimization": {"sub_group_size": 1048576},
                        "strata": {"states": {"moments": "int8", "master": "24bit"}}})")
                  .resolved_json(),
              HasSubstr("\"sub_group_size_bytes\": \"7.00 MiB\""));
  EXPECT_THAT(parse(R"({"optimizer": {"type": "SGD"},
                        "zero_optimization": {"sub_group_size": 1048576}})")
                  .resolved_json(),
              HasSubstr("\"sub_group_size_bytes\": \"8.00 MiB\""));
}

}  // namespace
}  // namespace strata::formats::ds_config_optimizer_test
