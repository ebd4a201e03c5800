#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "formats/parsed_config.h"
#include "strata/formats/ds_config.h"
#include "support/message_of.h"

/// \file
/// Config files of the kinds that people publish, with DeepSpeed's verdict: what it accepts comes
/// to the same batch, clip, optimizer and schedule here, or is refused by the name of what is not
/// there.

namespace strata::formats::ds_config_kinds_test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

/// "batch 8=8x1 clip 1 AdamW 5e-05 decay 0 none": what a file comes to on one rank.
std::string summary_of(DsConfig config) {
  constexpr std::string_view kOptimizers[] = {"Adam", "AdamW", "SGD", "Adagrad", "Lion"};
  constexpr std::string_view kSchedules[] = {"none",
                                             "WarmupLR",
                                             "WarmupDecayLR",
                                             "WarmupCosineLR",
                                             "OneCycle",
                                             "LRRangeTest",
                                             "linear",
                                             "cosine",
                                             "constant",
                                             "constant_with_warmup",
                                             "cosine_with_min_lr"};
  config.resolve_batch(1);
  std::ostringstream text;
  text << "batch " << config.train_batch_size << '=' << config.train_micro_batch_size_per_gpu << 'x'
       << config.gradient_accumulation_steps << " clip " << config.gradient_clipping << ' '
       << kOptimizers[static_cast<std::size_t>(config.optimizer.type)] << ' ' << config.optimizer.lr
       << " decay " << config.optimizer.weight_decay << ' '
       << kSchedules[static_cast<std::size_t>(config.scheduler.type)];
  return text.str();
}

struct Kind {
  std::string_view name;
  std::string_view text;
  std::string_view expected;  ///< the summary, or words of the refusal
};

class AcceptedKind : public ::testing::TestWithParam<Kind> {};

TEST_P(AcceptedKind, ComesToWhatDeepSpeedMakesOfIt) {
  ASSERT_EQ(error_of(GetParam().text), support::kNothingThrown);
  const DsConfig config = parse(GetParam().text);
  EXPECT_EQ(summary_of(config), GetParam().expected);
  DsConfig read_back = parse(config.resolved_json());
  read_back.ignored_keys = config.ignored_keys;
  EXPECT_EQ(read_back, config) << config.resolved_json();
}

INSTANTIATE_TEST_SUITE_P(
    Files, AcceptedKind,
    ::testing::Values(
        Kind{"comments_and_loose_commas",
             "{\n // weights\n train_batch_size: 6, # six\n 'gradient_clipping': 0.5\n"
             " \"bf16\": {\"enabled\": true,}, /* no more */\n}",
             "batch 6=6x1 clip 0.5 AdamW 5e-05 decay 0 none"},
        Kind{"everything_auto",
             R"({"train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto",
                 "gradient_accumulation_steps": "auto", "gradient_clipping": "auto",
                 "fp16": {"enabled": "auto", "initial_scale_power": 32, "auto_cast": false},
                 "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": "auto",
                               "eps": "auto", "weight_decay": "auto", "torch_adam": true}},
                 "scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": "auto",
                               "warmup_min_lr": "auto", "warmup_max_lr": "auto",
                               "warmup_num_steps": "auto"}}})",
             "batch 8=8x1 clip 1 AdamW 5e-05 decay 0 WarmupDecayLR"},
        Kind{"accumulation_alone", R"({"gradient_accumulation_steps": 4})",
             "batch 32=8x4 clip 1 AdamW 5e-05 decay 0 none"},
        Kind{"batch_and_accumulation",
             R"({"train_batch_size": 12, "gradient_accumulation_steps": 3})",
             "batch 12=4x3 clip 1 AdamW 5e-05 decay 0 none"},
        Kind{"batch_sizes_that_are_null",
             R"({"train_batch_size": 12, "train_micro_batch_size_per_gpu": null,
                 "gradient_accumulation_steps": null})",
             "batch 12=12x1 clip 1 AdamW 5e-05 decay 0 none"},
        Kind{"stage_2_with_the_old_offload",
             R"({"train_batch_size": 4, "zero_optimization": {"stage": 2, "cpu_offload": true,
                 "cpu_offload_use_pin_memory": true, "allgather_bucket_size": 2e8,
                 "round_robin_gradients": true}})",
             "batch 4=4x1 clip 1 AdamW 5e-05 decay 0 none"},
        Kind{"zero_optimization_true",
             R"({"train_batch_size": 4, "zero_optimization": true, "allgather_size": 5e8})",
             "batch 4=4x1 clip 1 AdamW 5e-05 decay 0 none"},
        Kind{"names_without_stage3_and_zeros",
             R"({"train_batch_size": 4, "zero_optimization": {"stage": 3, "sub_group_size": 0,
                 "max_live_parameters": 0, "max_reuse_distance": 0, "prefetch_bucket_size": "auto",
                 "param_persistence_threshold": "auto", "model_persistence_threshold": 1e6,
                 "module_granularity_threshold": 0, "gather_16bit_weights_on_model_save": true}})",
             "batch 4=4x1 clip 1 AdamW 5e-05 decay 0 none"},
        Kind{"values_in_quotes",
             R"({"train_batch_size": 4, "gradient_clipping": "0.25",
                 "zero_optimization": {"stage": "3", "overlap_comm": "False",
                                       "reduce_bucket_size": "5e8", "contiguous_gradients": 1},
                 "fp16": {"enabled": "true", "loss_scale": "0", "hysteresis": 2.0},
                 "optimizer": {"type": "Adam", "params": {"lr": "1e-4", "betas": ["0.9", 0.95],
                                                          "adam_w_mode": "true"}},
                 "aio": {"single_submit": "false", "overlap_events": "true", "block_size": "1048576",
                         "num_threads": 8, "queue_depth": 32.0}})",
             "batch 4=4x1 clip 0.25 Adam 0.0001 decay 0 none"},
        Kind{"clipping_that_is_false", R"({"train_batch_size": 4, "gradient_clipping": false})",
             "batch 4=4x1 clip 0 AdamW 5e-05 decay 0 none"},
        Kind{"torch_adam_has_the_decay_of_torch",
             R"({"train_batch_size": 4,
                 "optimizer": {"type": "Adam", "params": {"lr": 0.02, "torch_adam": true}}})",
             "batch 4=4x1 clip 1 Adam 0.02 decay 0.01 none"},
        Kind{"torch_adam_without_adamw",
             R"({"train_batch_size": 4, "optimizer": {"type": "Adam", "params": {
                 "torch_adam": true, "adam_w_mode": false}}})",
             "batch 4=4x1 clip 1 Adam 0.001 decay 0 none"},
        Kind{"torch_adam_with_a_decay",
             R"({"train_batch_size": 4, "optimizer": {"type": "AdamW", "params": {
                 "torch_adam": true, "weight_decay": 0.5, "fused": true}}})",
             "batch 4=4x1 clip 1 AdamW 0.001 decay 0.5 none"},
        Kind{"a_static_scale_needs_no_smallest_one",
             R"({"train_batch_size": 4, "fp16": {"enabled": true, "loss_scale": 512,
                                                "min_loss_scale": 0}})",
             "batch 4=4x1 clip 1 AdamW 5e-05 decay 0 none"},
        Kind{"sections_that_are_off",
             R"({"train_batch_size": 4, "amp": {"enabled": false, "opt_level": "O2"},
                 "curriculum_learning": {"enabled": false, "curriculum_type": "seqlen"},
                 "data_efficiency": {"seed": 3, "data_routing": {"enabled": false}},
                 "elasticity": {"enabled": false}, "progressive_layer_drop": {"enabled": "false"},
                 "compression_training": {"weight_quantization": {"shared_parameters":
                   {"enabled": false}}, "layer_reduction": {"enabled": false}},
                 "tensor_parallel": {"autotp_size": 1}, "expert_parallel": {},
                 "sparse_attention": null, "zero_optimization": {"stage": 3, "zenflow": null},
                 "data_types": {"grad_accum_dtype": "fp32", "keep_in_fp32_modules": []}})",
             "batch 4=4x1 clip 1 AdamW 5e-05 decay 0 none"},
        Kind{"other_tools_and_comment_keys",
             R"({"train_batch_size": 4, "_comment": "x", "#note": 1, "//": [2],
                 "comms_config": {"verbose": false}, "monitor_config": {"enabled": true},
                 "method": "deepspeed", "disable_fused_adam": true, "model": {"type": "gpt2"},
                 "activation_checkpointing": {"granularity_of_another_tool": 3}})",
             "batch 4=4x1 clip 1 AdamW 5e-05 decay 0 none"},
        Kind{"what_accelerate_writes",
             "{\"train_batch_size\": 4, \"steps_per_print\": Infinity,\n\"zero_optimization\": "
             "{\"stage\": 3, \"offload_param\": {\"device\": \"cpu\", \"nvme_path\": null}}}",
             "batch 4=4x1 clip 1 AdamW 5e-05 decay 0 none"},
        Kind{"one_cycle",
             R"({"train_batch_size": 64, "train_micro_batch_size_per_gpu": 4,
                 "optimizer": {"type": "Adam", "params": {"lr": 0.001}},
                 "scheduler": {"type": "OneCycle", "params": {"cycle_min_lr": 0.004,
                   "cycle_max_lr": 0.015, "cycle_first_step_size": 1000,
                   "cycle_second_step_size": 100, "cycle_first_stair_count": 100,
                   "decay_step_size": 1000, "decay_lr_rate": 0.01}}})",
             "batch 64=4x16 clip 1 Adam 0.001 decay 0 OneCycle"},
        Kind{"the_trainers_linear_schedule",
             R"({"scheduler": {"type": "linear", "params": {"num_warmup_steps": 10,
                   "num_training_steps": "auto"}}})",
             "batch 8=8x1 clip 1 AdamW 5e-05 decay 0 linear"},
        Kind{"the_trainers_cosine", R"({"scheduler": {"type": "cosine", "params": {
                   "num_cycles": 0.25, "warmup_num_steps": 10, "total_num_steps": 100}}})",
             "batch 8=8x1 clip 1 AdamW 5e-05 decay 0 cosine"},
        Kind{"the_trainers_constant_rate", R"({"scheduler": {"type": "constant"}})",
             "batch 8=8x1 clip 1 AdamW 5e-05 decay 0 constant"},
        Kind{
            "the_trainers_constant_rate_after_a_warmup",
            R"({"scheduler": {"type": "constant_with_warmup", "params": {"num_warmup_steps": 5}}})",
            "batch 8=8x1 clip 1 AdamW 5e-05 decay 0 constant_with_warmup"},
        Kind{"the_trainers_cosine_with_a_minimum",
             R"({"scheduler": {"type": "cosine_with_min_lr", "params": {"min_lr": 1e-6,
                   "min_lr_rate": null}}})",
             "batch 8=8x1 clip 1 AdamW 5e-05 decay 0 cosine_with_min_lr"},
        Kind{"a_cosine_of_ratios",
             R"({"train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 1,
                 "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}},
                 "scheduler": {"type": "WarmupCosineLR", "params": {"total_num_steps": 1000,
                   "warmup_type": "linear", "warmup_min_ratio": 0.1, "warmup_num_steps": 100}},
                 "zero_optimization": {"stage": 3, "leaf_module": {"classes": ["a.B"]}}})",
             "batch 2=2x1 clip 1 AdamW 0.0001 decay 0 WarmupCosineLR"}),
    [](const auto& kind) { return std::string(kind.param.name); });

class RefusedKind : public ::testing::TestWithParam<Kind> {};

TEST_P(RefusedKind, IsRefusedByName) {
  EXPECT_THAT(error_of(GetParam().text),
              AllOf(StartsWith("ds.json:"), HasSubstr(std::string(GetParam().expected))));
}

INSTANTIATE_TEST_SUITE_P(
    Files, RefusedKind,
    ::testing::Values(
        // what is not there and would change the numbers
        Kind{"zenflow", R"({"zero_optimization": {"stage": 3, "zenflow": {"topk_ratio": 0.1}}})",
             "zero_optimization.zenflow: not supported"},
        Kind{"fp16_master", R"({"fp16": {"enabled": true, "fp16_master_weights_and_grads": true}})",
             "fp16.fp16_master_weights_and_grads: only false"},
        Kind{"tensor_parallel", R"({"tensor_parallel": {"autotp_size": 4}})",
             "tensor_parallel: not supported"},
        Kind{"curriculum", R"({"curriculum_learning": {"enabled": true}})",
             "curriculum_learning: not supported"},
        Kind{"data_efficiency", R"({"data_efficiency": {"enabled": true}})", "not supported"},
        Kind{"compression",
             R"({"compression_training": {"sparse_pruning": {"shared_parameters":
                 {"enabled": true}}}})",
             "compression_training: not supported"},
        Kind{"layers_dropped", R"({"progressive_layer_drop": {"enabled": true}})", "not supported"},
        Kind{"moments_of_16_bits",
             R"({"optimizer": {"type": "Adam", "params": {"fp32_optimizer_states": false}}})",
             "\"moments\": \"bf16\""},
        Kind{"buffers_kept", R"({"data_types": {"keep_in_fp32_modules": ["*norm*"]}})",
             "data_types.keep_in_fp32_modules: not supported"},
        Kind{"gradients_added_in_bf16",
             R"({"bf16": {"enabled": true}, "train_micro_batch_size_per_gpu": 2,
                 "gradient_accumulation_steps": 2, "data_types": {"grad_accum_dtype": "bf16"}})",
             "data_types.grad_accum_dtype: the gradients of several micro-batches are added in "
             "fp32"},
        Kind{"gradients_rounded", R"({"communication_data_type": "fp16"})",
             "communication_data_type: this run computes in fp32"},
        Kind{"parameters_of_another_format", R"({"data_types": {"param_dtype": "bf16"}})",
             "data_types.param_dtype: this run computes in fp32"},
        Kind{"accumulation_by_hand",
             R"({"gradient_accumulation_steps": 2, "managed_gradient_accumulation": false})",
             "managed_gradient_accumulation: only true"},
        Kind{"sequence_parallel", R"({"sequence_parallel_size": 2})", "only 1 is supported"},
        Kind{"autocast", R"({"torch_autocast": {"enabled": true}})", "only false"},
        Kind{"a_minimum_that_is_not_named", R"({"scheduler": {"type": "cosine_with_min_lr"}})",
             "cosine_with_min_lr needs one of params.min_lr"},
        Kind{"a_minimum_of_another_schedule",
             R"({"scheduler": {"type": "cosine", "params": {"min_lr": 1e-6}}})",
             "scheduler.params.min_lr: is not a parameter of cosine"},
        Kind{"a_warmup_of_a_constant_rate",
             R"({"scheduler": {"type": "constant", "params": {"num_warmup_steps": 5}}})",
             "is not a parameter of constant"},
        Kind{"a_warmup_by_two_names",
             R"({"scheduler": {"type": "linear", "params": {"num_warmup_steps": 5,
                   "warmup_num_steps": 5}}})",
             "means the same as"},
        Kind{"lamb", R"({"optimizer": {"type": "Lamb"}})", "\"Lamb\" is none of"},
        // what DeepSpeed refuses as well
        Kind{"aio_in_zero", R"({"zero_optimization": {"stage": 3, "aio": {"block_size": 4096}}})",
             "zero_optimization.aio: unknown key \"aio\"; this section stands at the top of the "
             "file"},
        Kind{"scale_of_bf16", R"({"bf16": {"enabled": true, "loss_scale": 0}})",
             "it is known as fp16.loss_scale"},
        Kind{"trailing_fence", "{\"train_batch_size\": 4}\n```", "ds.json:2:1: there is more text"},
        Kind{"a_key_twice", "{\"train_batch_size\": 4,\n\"train_batch_size\": 4}", "stands twice"},
        // names that lead to the key that works
        Kind{"max_grad_norm", R"({"max_grad_norm": 0.5})",
             "unknown key \"max_grad_norm\"; write \"gradient_clipping\""},
        Kind{"max_grad_norm_in_params", R"({"optimizer": {"params": {"max_grad_norm": 0.5}}})",
             "write gradient_clipping at the top of the file"},
        Kind{"max_grad_norm_in_optimizer", R"({"optimizer": {"max_grad_norm": 0.5}})",
             "write \"gradient_clipping\" at the top of the file"},
        Kind{"old_micro_batch", R"({"micro_batch_size_per_gpu": 1})",
             "write \"train_micro_batch_size_per_gpu\""},
        Kind{"lr_scheduler", R"({"lr_scheduler": {"type": "WarmupLR"}})", "write \"scheduler\""},
        Kind{"offload_at_the_top", R"({"offload_param": {"device": "cpu"}})",
             "this section stands inside zero_optimization"},
        Kind{"a_slip_of_the_pen", R"({"gradient_cliping": 1})",
             "did you mean \"gradient_clipping\""},
        Kind{"a_name_cut_short", R"({"gradient_clip": 1})", "did you mean \"gradient_clipping\""},
        Kind{"a_name_made_longer", R"({"zero_optimization_stage": 3})",
             "did you mean \"zero_optimization\""}),
    [](const auto& kind) { return std::string(kind.param.name); });

TEST(DsConfigKinds, AllErrorsOfAFileAreNamedAtOnce) {
  const std::string message = error_of(
      "{\n"
      "  \"train_batch_sise\": 8,\n"
      "  \"optimizer\": {\"type\": \"Lamb\", \"params\": {\"lr\": \"fast\", \"momentum\": 1}},\n"
      "  \"zero_optimization\": {\"stage\": 7, \"zenflow\": {}},\n"
      "  \"bf16\": {\"enabled\": true},\n"
      "  \"fp16\": {\"enabled\": true}\n"
      "}");
  EXPECT_THAT(message, StartsWith("ds.json:2: train_batch_sise: unknown key"));
  for (const char* line : {"\nds.json:3: optimizer.type: \"Lamb\"",
                           "\nds.json:3: optimizer.params.lr: expected a number",
                           "\nds.json:4: zero_optimization.stage: 7 is too large",
                           "\nds.json:4: zero_optimization.zenflow: not supported",
                           "\nds.json:6: fp16.enabled: fp16 and bf16 are both enabled"}) {
    EXPECT_THAT(message, HasSubstr(line));
  }
  // Whose parameter momentum is no one knows as long as the type is wrong.
  EXPECT_THAT(message, Not(HasSubstr("momentum")));
}

TEST(DsConfigKinds, ManyErrorsAreCutShort) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "train_batch_size" + std::to_string(i) + ": 1\n";
  EXPECT_THAT(error_of(text), AllOf(StartsWith("ds.json:1: "), HasSubstr("\nand 80 errors more")));
  EXPECT_LT(error_of(text).size(), 3000u);
}

TEST(DsConfigKinds, NotesSayWhatIsTakenForWhatTheFileLeavesOut) {
  EXPECT_THAT(parse(R"({"optimizer": {"type": "AdamW"}})").notes, IsEmpty());
  EXPECT_THAT(parse("{}").notes,
              ElementsAre(AllOf(HasSubstr("no section optimizer"), HasSubstr("AdamW"),
                                HasSubstr("5e-5"), HasSubstr("the rate stays the same"))));
  EXPECT_THAT(parse(R"({"scheduler": {"type": "WarmupLR"}})").notes,
              ElementsAre(Not(HasSubstr("stays"))));
}

TEST(DsConfigKinds, UnknownKeysAtTheTopAreNamedInOneNote) {
  const auto notes =
      parse(R"({"optimizer": {"type": "AdamW"}, "_about": 1, "comms_config": {"verbose": 1},
                "activation_checkpointing": {"granularity_of_another_tool": 1}, "method": "x"})")
          .notes;
  EXPECT_THAT(notes, ElementsAre("keys that neither Strata nor DeepSpeed looks at: comms_config, "
                                 "activation_checkpointing.granularity_of_another_tool, method"));
}

TEST(DsConfigKinds, EveryStageIsAcceptedAndOffloadsWhatItCan) {
  for (int stage = 0; stage < 3; ++stage) {
    const DsConfig config = parse(R"({"optimizer": {"type": "AdamW"}, "zero_optimization": {
        "offload_param": {"device": "nvme", "nvme_path": "/a"},
        "offload_optimizer": {"device": "cpu"}, "stage": )" +
                                  std::to_string(stage) + "}}");
    EXPECT_EQ(config.zero.stage, stage);
    EXPECT_EQ(config.zero.offload_param.device, OffloadDevice::kNone);
    EXPECT_EQ(config.zero.offload_optimizer.device, OffloadDevice::kCpu);
    EXPECT_THAT(config.nvme_directories(), IsEmpty());
    EXPECT_THAT(config.notes, ElementsAre(HasSubstr("the same numbers as stage 3"),
                                          HasSubstr("offload_param is not used in stage")));
  }
}

TEST(DsConfigKinds, BooleansAndOldNamesOfZeroMeanWhatTheyMeantToDeepSpeed) {
  EXPECT_EQ(parse(R"({"zero_optimization": true})").zero.stage, 1);
  EXPECT_EQ(parse(R"({"zero_optimization": false})").zero.stage, 0);
  const ZeroConfig zero =
      parse(R"({"zero_optimization": {"stage": 3, "cpu_offload": true, "cpu_offload_param": true,
                "max_live_parameters": 5, "prefetch_bucket_size": 6, "sub_group_size": 0}})")
          .zero;
  EXPECT_EQ(zero.offload_optimizer.device, OffloadDevice::kCpu);
  EXPECT_EQ(zero.offload_param.device, OffloadDevice::kCpu);
  EXPECT_EQ(zero.live_elements_max, 5);
  EXPECT_EQ(zero.prefetch_elements, 6);
  EXPECT_EQ(zero.sub_group_elements, 1'000'000'000);
  EXPECT_EQ(parse(R"({"zero_optimization": {"stage": 3, "cpu_offload": false}})")
                .zero.offload_optimizer.device,
            OffloadDevice::kNone);
}

TEST(DsConfigKinds, AutoCastIsKeptForTheEngine) {
  EXPECT_EQ(parse(R"({"fp16": {"enabled": true}})").fp16.auto_cast, std::nullopt);
  EXPECT_EQ(parse(R"({"fp16": {"enabled": true, "auto_cast": "auto"}})").fp16.auto_cast,
            std::nullopt);
  EXPECT_EQ(parse(R"({"fp16": {"enabled": true, "auto_cast": true}})").fp16.auto_cast, true);
  EXPECT_EQ(parse(R"({"fp16": {"enabled": true, "auto_cast": false}})").fp16.auto_cast, false);
}

TEST(DsConfigKinds, TheTrainersSchedulesDoNotWarmUpUnaskedAndKnowTheLengthOfTheRun) {
  DsConfig config = parse(R"({"scheduler": {"type": "linear"}})");
  EXPECT_EQ(config.scheduler.warmup_num_steps, 0);
  config.set_total_steps(7);
  EXPECT_EQ(config.scheduler.total_num_steps, 7);
}

TEST(DsConfigKinds, ANullRateAtTheEndOfTheWarmupIsTheOptimizers) {
  EXPECT_EQ(parse(R"({"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 5,
                      "warmup_max_lr": null}}})")
                .scheduler.warmup_max_lr,
            std::nullopt);
}

}  // namespace
}  // namespace strata::formats::ds_config_kinds_test
