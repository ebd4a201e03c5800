#include "strata/formats/ds_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "formats/ds_config_keys.h"
#include "formats/parsed_config.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "support/message_of.h"
#include "support/temp_directory.h"

namespace strata::formats::ds_config_test {
namespace {

using support::message_of;
using support::TempDirectory;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

TEST(DsConfig, AnEmptyFileMeansTheDocumentedDefaults) {
  const DsConfig config = parse("{}");
  EXPECT_EQ(config.precision(), Precision::kFp32);
  EXPECT_EQ(config.gradient_clipping, 1.0);
  EXPECT_EQ(config.optimizer.type, OptimizerType::kAdamW);
  EXPECT_EQ(config.optimizer.lr, 5e-5);
  EXPECT_EQ(config.optimizer.weight_decay, 0.0);
  EXPECT_TRUE(config.optimizer.decoupled_weight_decay());
  EXPECT_EQ(config.scheduler.type, SchedulerType::kNone);
  EXPECT_EQ(config.zero.stage, 3);
  EXPECT_EQ(config.zero.prefetch_elements, 50'000'000);
  EXPECT_EQ(config.aio.block_bytes, 1 << 20);
  EXPECT_EQ(config.strata.recompute, true);
  EXPECT_EQ(config.activation_bytes().host, 0u);
  EXPECT_EQ(config.activation_bytes().nvme, 0u);
  EXPECT_EQ(config.fp16.auto_cast, std::nullopt);
  EXPECT_THAT(config.ignored_keys, IsEmpty());
  EXPECT_THAT(config.nvme_directories(), IsEmpty());
}

TEST(DsConfig, ReadsEverySectionWithAnEffect) {
  const DsConfig config = parse(R"({
    "train_batch_size": 32, "steps_per_print": 10, "gradient_clipping": 0.5,
    "optimizer": {"type": "Adam", "params": {"lr": 3e-4, "betas": [0.8, 0.95], "eps": 1e-6,
                  "weight_decay": 0.1, "adam_w_mode": false, "bias_correction": false}},
    "scheduler": {"type": "WarmupDecayLR", "params": {"warmup_min_lr": 1e-6, "warmup_max_lr": 2e-4,
                  "warmup_num_steps": 7, "warmup_type": "linear", "total_num_steps": 99}},
    "fp16": {"enabled": true, "loss_scale": 0, "initial_scale_power": 12, "loss_scale_window": 50,
             "hysteresis": 3, "consecutive_hysteresis": true, "min_loss_scale": 4},
    "zero_optimization": {"stage": 3,
      "offload_param": {"device": "nvme", "nvme_path": "/a"},
      "offload_optimizer": {"device": "cpu", "nvme_path": "/b"},
      "sub_group_size": 1e6, "stage3_prefetch_bucket_size": 2e6, "stage3_max_live_parameters": 3e6},
    "aio": {"block_size": 262144, "queue_depth": 16, "intra_op_parallelism": 2},
    "strata": {"budget": {"host": "4GiB", "device": 1000000, "nvme": "60GiB"}, "io": "io_uring",
               "no_decay": ["*.bias"], "keep_fp32": ["ln_*"], "recompute": false, "chunk_bytes": "2MiB",
               "window_elements": 4096, "threads": 3, "activations": {"host": "1MiB", "nvme": "8MiB"},
               "tile_bytes": "64MiB", "freeze": ["h.[0-3].*"],
               "parameter_groups": [{"params": ["*.bias", "wpe.*"], "lr": 1e-6, "weight_decay": 0},
                                    {"params": ["h.7.*"], "lr_scale": 0.5}]}
  })");
  EXPECT_EQ(config.train_batch_size, 32);
  EXPECT_EQ(config.steps_per_print, 10);
  EXPECT_EQ(config.gradient_clipping, 0.5);
  EXPECT_EQ(config.optimizer.type, OptimizerType::kAdam);
  EXPECT_EQ(config.optimizer.beta1, 0.8);
  EXPECT_EQ(config.optimizer.beta2, 0.95);
  EXPECT_EQ(config.optimizer.eps, 1e-6);
  EXPECT_FALSE(config.optimizer.decoupled_weight_decay());
  EXPECT_FALSE(config.optimizer.bias_correction);
  EXPECT_EQ(config.scheduler.type, SchedulerType::kWarmupDecayLR);
  EXPECT_EQ(config.scheduler.warmup_max_lr, 2e-4);
  EXPECT_EQ(config.scheduler.warmup_num_steps, 7);
  EXPECT_EQ(config.scheduler.warmup_type, WarmupType::kLinear);
  EXPECT_EQ(config.scheduler.total_num_steps, 99);
  EXPECT_EQ(config.precision(), Precision::kFp16);
  EXPECT_TRUE(config.fp16.dynamic_loss_scale());
  EXPECT_EQ(config.fp16.initial_scale_power, 12);
  EXPECT_EQ(config.fp16.hysteresis, 3);
  EXPECT_TRUE(config.fp16.consecutive_hysteresis);
  EXPECT_EQ(config.fp16.min_loss_scale, 4);
  EXPECT_EQ(config.zero.offload_param.device, OffloadDevice::kNvme);
  EXPECT_EQ(config.zero.offload_optimizer.device, OffloadDevice::kCpu);
  EXPECT_EQ(config.zero.sub_group_elements, 1'000'000);
  EXPECT_EQ(config.zero.prefetch_elements, 2'000'000);
  EXPECT_EQ(config.zero.live_elements_max, 3'000'000);
  EXPECT_EQ(config.aio.queue_depth, 16);
  EXPECT_EQ(config.strata.host_budget_bytes, 4_GiB);
  EXPECT_EQ(config.strata.device_budget_bytes, 1'000'000u);
  EXPECT_EQ(config.strata.io, IoBackend::kIoUring);
  EXPECT_EQ(config.strata.chunk_bytes, 2_MiB);
  EXPECT_EQ(config.strata.window_elements, 4096);
  EXPECT_EQ(config.strata.tile_bytes, 64_MiB);
  EXPECT_EQ(config.strata.threads, 3);
  EXPECT_EQ(config.strata.recompute, false);
  EXPECT_EQ(config.activation_bytes().host, 1_MiB);
  EXPECT_EQ(config.activation_bytes().nvme, 8_MiB);
  EXPECT_THAT(config.strata.keep_fp32, ElementsAre("ln_*"));
  EXPECT_THAT(config.fp32_patterns(), ElementsAre("ln_*"));
  EXPECT_THAT(config.strata.freeze, ElementsAre("h.[0-3].*"));
  const ParameterGroupConfig first = {
      .params = {"*.bias", "wpe.*"}, .lr = 1e-6, .lr_scale = std::nullopt, .weight_decay = 0.0};
  const ParameterGroupConfig second = {
      .params = {"h.7.*"}, .lr = std::nullopt, .lr_scale = 0.5, .weight_decay = std::nullopt};
  EXPECT_THAT(config.strata.parameter_groups, ElementsAre(first, second));
  EXPECT_THAT(config.nvme_directories(), ElementsAre("/a", "/b"));
  EXPECT_THAT(config.ignored_keys, IsEmpty());
}

TEST(DsConfig, CpuCheckpointingHasRoomInHostMemoryUnlessBytesAreNamed) {
  const auto bytes_of = [](const std::string& strata) {
    return parse(R"({"activation_checkpointing": {"cpu_checkpointing": true}, "strata": )" +
                 strata + "}")
        .activation_bytes();
  };
  EXPECT_EQ(bytes_of("{}").host, 1_GiB);
  EXPECT_EQ(bytes_of(R"({"budget": {"host": "80GiB"}})").host, 1_GiB);
  EXPECT_EQ(bytes_of(R"({"budget": {"host": "800MiB"}})").host, 100_MiB);
  EXPECT_EQ(bytes_of(R"({"activations": {"host": "3GiB"}})").host, 3_GiB);
  EXPECT_EQ(bytes_of(R"({"activations": {"nvme": "3GiB"}})").host, 0u);
  EXPECT_EQ(bytes_of(R"({"activations": {"nvme": "3GiB"}})").nvme, 3_GiB);
}

TEST(DsConfig, RecomputeMayBeAuto) {
  const DsConfig config = parse(R"({"strata": {"recompute": "auto"}})");
  EXPECT_EQ(config.strata.recompute, std::nullopt);
  EXPECT_EQ(parse(config.resolved_json()), config);
}

TEST(DsConfig, StepsThatAreNotFiniteAreSkippedInFp16AndWhereTheFileSaysSo) {
  const auto skips = [](const char* text) {
    const DsConfig config = parse(text);
    EXPECT_EQ(parse(config.resolved_json()), config) << text;
    return config.skips_nonfinite();
  };
  EXPECT_FALSE(skips("{}"));
  EXPECT_FALSE(skips(R"({"bf16": {"enabled": true}})"));
  EXPECT_TRUE(skips(R"({"fp16": {"enabled": true}})"));
  EXPECT_TRUE(skips(R"({"strata": {"nonfinite": "skip"}})"));
  EXPECT_TRUE(skips(R"({"bf16": {"enabled": true, "check_grad_overflow": true}})"));
  EXPECT_FALSE(skips(R"({"bf16": {"enabled": true, "check_grad_overflow": false}})"));
  EXPECT_FALSE(skips(R"({"bf16": {"enabled": false, "check_grad_overflow": true}})"));
  EXPECT_FALSE(skips(R"({"bf16": {"enabled": true, "check_grad_overflow": true},
                         "strata": {"nonfinite": "error"}})"));
  EXPECT_THAT(error_of(R"({"strata": {"nonfinite": "ignore"}})"),
              HasSubstr("is none of: error, skip"));
}

TEST(DsConfig, NothingIsKeptInFp32BesideFp32) {
  EXPECT_THAT(parse(R"({"strata": {"keep_fp32": ["*"]}})").fp32_patterns(), IsEmpty());
}

TEST(DsConfig, AdamIsAdamWUnlessTheFileOptsOut) {
  EXPECT_TRUE(parse(R"({"optimizer": {"type": "Adam"}})").optimizer.decoupled_weight_decay());
  EXPECT_FALSE(parse(R"({"optimizer": {"type": "adam", "params": {"adam_w_mode": false}}})")
                   .optimizer.decoupled_weight_decay());
  EXPECT_TRUE(parse(R"({"optimizer": {"type": "AdamW", "params": {"adam_w_mode": false}}})")
                  .optimizer.decoupled_weight_decay());
}

TEST(DsConfig, SchedulesHaveDeepSpeedsDefaults) {
  EXPECT_EQ(parse(R"({"scheduler": {"type": "WarmupLR"}})").scheduler.warmup_max_lr, std::nullopt);
  EXPECT_EQ(parse(R"({"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 5}}})")
                .scheduler.warmup_max_lr,
            1e-3);
}

TEST(DsConfig, AutoIsAcceptedWhereHuggingFaceWritesItAndMeansWhatTheHeaderSays) {
  DsConfig config = parse(R"({
    "train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto", "gradient_clipping": "auto",
    "fp16": {"enabled": "auto", "loss_scale": 0}, "bf16": {"enabled": "auto"},
    "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "eps": "auto",
                                              "weight_decay": "auto"}},
    "scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": "auto",
                  "warmup_min_lr": "auto", "warmup_max_lr": "auto", "warmup_num_steps": "auto"}},
    "zero_optimization": {"stage": 3,
      "offload_optimizer": {"device": "nvme", "nvme_path": "/local_nvme", "pin_memory": true,
                            "buffer_count": 4, "fast_init": false},
      "offload_param": {"device": "nvme", "nvme_path": "/local_nvme", "pin_memory": true,
                        "buffer_count": 5, "buffer_size": 1e8, "max_in_cpu": 1e9},
      "overlap_comm": true, "contiguous_gradients": true, "sub_group_size": 1e9,
      "reduce_bucket_size": "auto", "stage3_prefetch_bucket_size": "auto",
      "stage3_param_persistence_threshold": "auto", "stage3_max_live_parameters": 1e9,
      "stage3_max_reuse_distance": 1e9, "stage3_gather_16bit_weights_on_model_save": true},
    "steps_per_print": 2000, "wall_clock_breakdown": false
  })");
  EXPECT_EQ(config.optimizer.lr, 5e-5);
  EXPECT_EQ(config.optimizer.beta2, 0.999);
  EXPECT_EQ(config.gradient_clipping, 1.0);
  EXPECT_EQ(config.precision(), Precision::kBf16);
  EXPECT_EQ(config.scheduler.warmup_num_steps, 0);
  EXPECT_EQ(config.scheduler.warmup_max_lr, std::nullopt);
  EXPECT_EQ(config.scheduler.total_num_steps, 0);
  EXPECT_EQ(config.zero.prefetch_elements, 50'000'000);
  EXPECT_EQ(config.zero.persistence_threshold, std::nullopt);
  EXPECT_EQ(config.zero.reuse_distance_max, 1'000'000'000);
  EXPECT_EQ(config.zero.offload_optimizer.buffer_count, 4);
  EXPECT_EQ(config.zero.offload_param.buffer_count, 5);
  EXPECT_EQ(config.zero.offload_param.buffer_size, 100'000'000);
  EXPECT_EQ(config.zero.offload_param.max_in_cpu, 1'000'000'000);
  EXPECT_THAT(config.nvme_directories(), ElementsAre("/local_nvme"));
  EXPECT_THAT(
      config.ignored_keys,
      ElementsAre("zero_optimization.offload_optimizer.pin_memory",
                  "zero_optimization.offload_optimizer.fast_init",
                  "zero_optimization.offload_param.pin_memory", "zero_optimization.overlap_comm",
                  "zero_optimization.contiguous_gradients", "zero_optimization.reduce_bucket_size",
                  "zero_optimization.stage3_gather_16bit_weights_on_model_save",
                  "wall_clock_breakdown"));
  config.set_total_steps(1234);
  EXPECT_EQ(config.scheduler.total_num_steps, 1234);
  config.set_total_steps(9);
  EXPECT_EQ(config.scheduler.total_num_steps, 1234);
}

TEST(DsConfig, AutomaticBf16GivesWayToFp16) {
  EXPECT_EQ(parse(R"({"bf16": {"enabled": "auto"}, "fp16": {"enabled": true}})").precision(),
            Precision::kFp16);
  EXPECT_EQ(parse(R"({"fp16": {"enabled": "auto"}})").precision(), Precision::kFp32);
}

TEST(DsConfig, EveryIoBackendThatMovesBytesCanBeNamed) {
  const std::pair<const char*, IoBackend> engines[] = {{"auto", IoBackend::kAuto},
                                                       {"io_uring", IoBackend::kIoUring},
                                                       {"libaio", IoBackend::kLibaio},
                                                       {"threads", IoBackend::kThreads}};
  for (const auto& [name, engine] : engines) {
    EXPECT_EQ(parse(std::string(R"({"strata": {"io": ")") + name + R"("}})").strata.io, engine);
  }
  EXPECT_THROW((void)parse(R"({"strata": {"io": "null"}})"), ConfigError);
}

TEST(DsConfig, OlderNamesOfKeysStillWork) {
  EXPECT_EQ(parse(R"({"aio": {"thread_count": 7}})").aio.threads, 7);
  EXPECT_EQ(parse(R"({"aio": {"num_threads": 7}})").aio.threads, 7);
  EXPECT_EQ(parse(R"({"bfloat16": {"enabled": true}})").precision(), Precision::kBf16);
  EXPECT_THAT(error_of("{\"aio\": {\"thread_count\": 7,\n\"intra_op_parallelism\": 7}}"),
              AllOf(StartsWith("ds.json:2: aio.intra_op_parallelism:"),
                    HasSubstr("aio.thread_count in line 1")));
}

struct Mistake {
  std::string_view text;
  std::vector<std::string_view> words;
};

TEST(DsConfig, EveryMistakeSaysWhereItIsAndWhatToWrite) {
  const std::vector<Mistake> mistakes = {
      {"{\n\n\"gradient_clipp1ng\": 1.0}",
       {"ds.json:3: gradient_clipp1ng:", "unknown key", "did you mean \"gradient_clipping\"?"}},
      {R"({"aio": {"que_depth": 8}})", {"aio.que_depth", "did you mean \"queue_depth\"?"}},
      {R"({"zero_optimisation": {}})", {"did you mean \"zero_optimization\"?"}},
      {R"({"zero_optimization": {"offload_param": {"devcie": "cpu"}}})", {"\"device\"?"}},
      {R"({"stage3_prefetch_bucket_size": 5e7})",
       {"known as zero_optimization.stage3_prefetch_bucket_size"}},
      {R"({"optimizer": {"lr": 1e-3}})", {"known as optimizer.params.lr"}},
      {R"({"strata": {"host": "4GiB"}})", {"known as strata.budget.host"}},
      {R"({"optimizer.params.lr": 1})", {"unknown key"}},
      {R"({"aio": {"qqqqqqqqqq": 1}})", {"unknown key \"qqqqqqqqqq\"", "DeepSpeed's keys"}},
      {R"({"train_batch_size": "many"})", {"expected an integer", "(\"many\")"}},
      {R"({"train_batch_size": "1.5"})", {"expected a whole number, found \"1.5\""}},
      {R"({"optimizer": {"params": {"lr": "1e-4x"}}})", {"expected a number", "(\"1e-4x\")"}},
      {R"({"optimizer": {"params": {"lr": "nan"}}})", {"expected a number"}},
      {R"({"optimizer": {"params": {"lr": true}}})", {"expected a number, found a boolean"}},
      {R"({"gradient_clipping": null})", {"expected a number, found null"}},
      {R"({"train_batch_size": 32.5})", {"whole number"}},
      {R"({"train_batch_size": 0})", {"0 is too small; at least 1"}},
      {R"({"train_batch_size": -4})", {"too small"}},
      {R"({"optimizer": {"params": {"eps": 0}}})", {"0 is too small; it must be above 0"}},
      {R"({"train_batch_size": 1e12})", {"too large"}},
      {R"({"gradient_clipping": -1})", {"too small; at least 0"}},
      {R"({"optimizer": 3})", {"optimizer: expected an object, found an integer"}},
      {R"({"optimizer": {"type": "AdmaW"}})",
       {"\"AdmaW\" is none of: Adam, AdamW", "did you mean \"AdamW\"?"}},
      {R"({"optimizer": {"type": "Lamb"}})", {"none of: Adam, AdamW"}},
      {R"({"optimizer": {"params": {"betas": [0.9]}}})", {"expected two numbers, found 1"}},
      {R"({"optimizer": {"params": {"betas": [0.9, 1.0]}}})", {"betas[1]", "below 1"}},
      {R"({"optimizer": {"params": {"betas": [0.9, "x"]}}})", {"betas[1]", "expected a number"}},
      {R"({"optimizer": {"params": {"eps": 0}}})", {"too small"}},
      {R"({"optimizer": {"params": {"max_grad_norm": 1}}})", {"gradient_clipping"}},
      {R"({"optimizer": {"params": {"amsgrad": true}}})", {"only false"}},
      {R"({"scheduler": {"type": "OneCycle"}})",
       {"scheduler.type: OneCycle needs params.cycle_min_lr"}},
      {R"({"scheduler": {"type": "Step"}})",
       {"WarmupLR, WarmupDecayLR, WarmupCosineLR, OneCycle, LRRangeTest"}},
      {R"({"scheduler": {"type": "WarmupLR", "params": {"last_batch_iteration": -2}}})",
       {"too small; at least -1"}},
      {R"({"scheduler": {"type": "OneCycle", "params": {"cycle_min_lr": 0.1, "cycle_max_lr": 1,
           "decay_mom_rate": 0.1}}})",
       {"only 0 is supported", "passes 1"}},
      {R"({"scheduler": {"type": "OneCycle", "params": {"cycle_min_lr": 0.1, "cycle_max_lr": 1,
           "cycle_max_mom": 1}}})",
       {"cycle_max_mom: 1 is too large"}},
      {R"({"scheduler": {"type": "WarmupDecayLR"}})", {"scheduler.type", "total_num_steps"}},
      {R"({"scheduler": {"type": "WarmupLR", "params": {"cos_min_ratio": 0.1}}})",
       {"scheduler.params.cos_min_ratio: is not a parameter of WarmupLR"}},
      {R"({"scheduler": {"params": {"warmup_num_steps": 3}}})", {"without scheduler.type"}},
      {R"({"scheduler": {"type": "WarmupLR", "params": {"warmup_type": "cubic"}}})",
       {"none of: log, linear"}},
      {R"({"bf16": {"enabled": 2}})", {"expected a boolean, found an integer (2)"}},
      {R"({"bf16": {"enabled": "maybe"}})", {"expected a boolean"}},
      {R"({"fp16": {"enabled": true, "min_loss_scale": 0}})", {"it must be above 0"}},
      {R"({"fp16": {"enabled": true, "loss_scale_window": 0}})", {"at least 1"}},
      {R"({"bf16": {"enabled": true}, "fp16": {"enabled": true}})", {"both enabled; choose one"}},
      {R"({"fp16": {"fp16_master_weights_and_grads": true}})", {"only false is supported"}},
      {R"({"fp16": {"enabled": true, "initial_scale_power": 2, "min_loss_scale": 8}})",
       {"begin below min_loss_scale"}},
      {R"({"zero_optimization": {"stage": 5}})", {"too large"}},
      {R"({"zero_optimization": {"stage": 3, "cpu_offload": true,
                                 "offload_optimizer": {"device": "nvme"}}})",
       {"means the same as zero_optimization.cpu_offload in line 1"}},
      {R"({"zero_optimization": {"prefetch_bucket_size": 1, "stage3_prefetch_bucket_size": 1}})",
       {"means the same as zero_optimization.prefetch_bucket_size"}},
      {R"({"zero_optimization": {"offload_param": {"device": "nvme", "nvme_path": "~/nv"}}})",
       {"offload_param.nvme_path: \"~/nv\" is taken as it stands", "write the whole path"}},
      {R"({"strata": {"nvme": ["/a", "$HOME/nv"]}})",
       {"strata.nvme[1]: \"$HOME/nv\"", "\"$\" is not expanded"}},
      {R"({"zero_optimization": {"offload_param": {"device": "disk"}}})",
       {"none of: none, cpu, nvme"}},
      {R"({"zero_optimization": {"overlap_comm": "perhaps"}})",
       {"expected null or a boolean, found a string"}},
      {R"({"aio": {"block_size": 1000}})", {"too small; at least 4096"}},
      {R"({"aio": {"block_size": 1000000}})", {"not a multiple of 4096"}},
      {R"({"aio": []})", {"expected an object"}},
      {R"({"strata": {"budget": {"host": "4 gigs"}}})", {"strata.budget.host", "4 gigs"}},
      {R"({"strata": {"budget": {"host": -1}}})", {"not negative"}},
      {R"({"strata": {"budget": "4GiB"}})", {"expected an object"}},
      {R"({"strata": {"nvme": "/mnt"}})", {"expected an array"}},
      {R"({"strata": {"nvme": [1]}})", {"strata.nvme[0]", "expected a string"}},
      {R"({"strata": {"io": "posix"}})", {"none of: auto, io_uring, libaio, threads"}},
      {R"({"strata": {"chunk_bytes": 1000}})", {"multiple of 4096"}},
      {R"({"strata": {"recompute": "maybe"}})", {"expected a boolean"}},
      {R"({"elasticity": {"enabled": true}})", {"not supported", "batch"}},
      {R"({"curriculum_learning": {"enabled": true}})", {"remove the section"}},
      {R"([1])", {"expected an object"}},
      {R"({"bf16": {"enabled": true}, "bf16": {"enabled": true}})", {"stands twice"}},
  };
  for (const auto& [text, words] : mistakes) {
    const std::string message = error_of(text);
    EXPECT_THAT(message, StartsWith("ds.json:")) << text;
    for (const std::string_view word : words) {
      EXPECT_THAT(message, HasSubstr(std::string(word))) << text;
    }
  }
}

TEST(DsConfig, EveryKeyWithoutEffectIsListed) {
  for (const ConfigKey& key : config_keys()) {
    const auto* const without = std::get_if<WithoutEffect>(&key.target);
    if (without == nullptr) continue;
    constexpr std::string_view kValues[] = {"null", "true", "1", "1.5", "\"x\"", "[]", "{}"};
    std::size_t type = 0;
    while ((without->types >> type & 1) == 0) ++type;
    std::string text(kValues[type]);
    for (std::string_view rest = key.path; !rest.empty();) {
      const auto dot = rest.rfind('.');
      const std::size_t begin = dot == std::string_view::npos ? 0 : dot + 1;
      text = "{\"" + std::string(rest.substr(begin)) + "\": " + text + "}";
      rest = dot == std::string_view::npos ? std::string_view() : rest.substr(0, dot);
    }
    EXPECT_THAT(parse(text).ignored_keys, ElementsAre(std::string(key.path))) << text;
  }
}

TEST(DsConfig, EveryPathStandsInTheListOnce) {
  std::set<std::string_view> paths;
  for (const ConfigKey& key : config_keys()) {
    EXPECT_TRUE(paths.insert(key.path).second) << key.path;
    EXPECT_TRUE(key.alias_of.empty() || find_config_key(key.alias_of) != nullptr) << key.path;
  }
}

struct Batch {
  std::int64_t total, micro, steps;
  bool operator==(const Batch&) const = default;
};

Batch resolve(Batch given, int world_size) {
  DsConfig config;
  config.name = "ds.json";
  config.train_batch_size = given.total;
  config.train_micro_batch_size_per_gpu = given.micro;
  config.gradient_accumulation_steps = given.steps;
  config.resolve_batch(world_size);
  return {config.train_batch_size, config.train_micro_batch_size_per_gpu,
          config.gradient_accumulation_steps};
}

TEST(DsConfigBatch, AnyTwoSizesGiveTheThird) {
  const Batch whole = {96, 4, 8};
  EXPECT_EQ(resolve({96, 4, 8}, 3), whole);
  EXPECT_EQ(resolve({0, 4, 8}, 3), whole);
  EXPECT_EQ(resolve({96, 0, 8}, 3), whole);
  EXPECT_EQ(resolve({96, 4, 0}, 3), whole);
}

TEST(DsConfigBatch, OneSizeOrNoneTakesTheDocumentedRest) {
  EXPECT_EQ(resolve({6, 0, 0}, 3), (Batch{6, 2, 1}));
  EXPECT_EQ(resolve({0, 5, 0}, 3), (Batch{15, 5, 1}));
  EXPECT_EQ(resolve({0, 0, 4}, 3), (Batch{96, 8, 4}));
  EXPECT_EQ(resolve({0, 0, 0}, 3), (Batch{24, 8, 1}));
}

TEST(DsConfigBatch, SizesThatDoNotMultiplyAreAnErrorStatingTheProduct) {
  for (const Batch given : {Batch{100, 4, 8}, Batch{7, 0, 0}, Batch{10, 4, 0}, Batch{10, 0, 4},
                            Batch{2, 0, 0}, Batch{1, 4, 0}}) {
    EXPECT_THROW((void)resolve(given, 3), ConfigError) << given.total;
  }
  EXPECT_THAT(message_of<ConfigError>([] {
                (void)resolve({100, 4, 8}, 3);
              }),
              AllOf(StartsWith("ds.json: train_batch_size 100"), HasSubstr("4 * 8 * 3 = 96")));
  EXPECT_THAT(message_of<ConfigError>([] {
                (void)resolve({10, 4, 0}, 3);
              }),
              HasSubstr("10 is not a multiple of train_micro_batch_size_per_gpu * ranks = 4 * 3"));
}

TEST(DsConfigDecay, PatternsMatchTheWholeNameOrWhatFollowsADot) {
  DsConfig config;
  EXPECT_TRUE(config.decays("transformer.h.0.ln_1.bias"));
  config.strata.no_decay = {"*.bias", "ln_*", "wpe.?eight"};
  EXPECT_FALSE(config.decays("transformer.h.0.ln_1.bias"));
  EXPECT_FALSE(config.decays("transformer.h.0.ln_1.weight"));
  EXPECT_FALSE(config.decays("ln_f.weight"));
  EXPECT_FALSE(config.decays("transformer.wpe.weight"));
  EXPECT_TRUE(config.decays("transformer.h.0.attn.c_attn.weight"));
  EXPECT_TRUE(config.decays("transformer.h.0.mlp_ln_.weight"));
  EXPECT_TRUE(config.decays("bias"));
  EXPECT_TRUE(config.decays(""));
}

TEST(DsConfigResolved, PrintsBytesBesideElements) {
  const std::string text = parse(R"({"bf16": {"enabled": true},
      "zero_optimization": {"stage3_prefetch_bucket_size": 1048576, "sub_group_size": 1048576}})")
                               .resolved_json();
  EXPECT_THAT(text, HasSubstr("\"stage3_prefetch_bucket_size\": 1048576"));
  EXPECT_THAT(text, HasSubstr("\"stage3_prefetch_bucket_size_bytes\": \"2.00 MiB\""));
  EXPECT_THAT(text, HasSubstr("\"sub_group_size_bytes\": \"14.0 MiB\""));
}

TEST(DsConfigResolved, LeavesOutWhatDoesNotApply) {
  const std::string text = parse("{}").resolved_json();
  EXPECT_THAT(text, Not(HasSubstr("scheduler")));
  EXPECT_THAT(text, Not(HasSubstr("nvme_path")));
  EXPECT_THAT(text, Not(HasSubstr("null")));
}

/// Reading what was printed gives the same configuration and prints the same again.
void expect_round_trip(DsConfig config) {
  config.ignored_keys.clear();
  const std::string text = config.resolved_json();
  DsConfig again = DsConfig::from_text(text, config.name);
  EXPECT_EQ(again, config) << text;
  EXPECT_EQ(again.resolved_json(), text);
  EXPECT_THAT(again.ignored_keys, IsEmpty());
}

TEST(DsConfigResolved, IsReadBackToTheSameConfiguration) {
  for (const char* text :
       {"{}", R"({"scheduler": {"type": "WarmupLR"}, "steps_per_print": 3})",
        R"({"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": "auto"}}})",
        R"({"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 7,
            "warmup_max_lr": "auto", "warmup_num_steps": "auto"}}})",
        R"({"scheduler": {"type": "WarmupCosineLR", "params": {"total_num_steps": 7,
            "warmup_min_ratio": 0.25}}, "gradient_clipping": 0})",
        R"({"fp16": {"enabled": true, "loss_scale": 128}, "aio": {"thread_count": 3}})",
        R"({"strata": {"budget": {"host": "1.5GiB", "nvme": 1}, "nvme": ["/a b", "/\"c\""],
            "io": "threads", "no_decay": ["*"], "keep_fp32": ["?"], "chunk_bytes": 8192, "threads": 2,
            "tile_bytes": "auto"}})",
        R"({"strata": {"tile_bytes": 12345}})",
        R"({"strata": {"freeze": ["a.*"], "parameter_groups": [{"params": ["b"], "lr": 0.5},
            {"params": ["c", "d"], "lr_scale": 0, "weight_decay": 0.25}]}})",
        R"({"zero_optimization": {"stage": 1, "cpu_offload": true, "sub_group_size": 0}})",
        R"({"fp16": {"enabled": true, "auto_cast": false}, "steps_per_print": Infinity
           })",
        R"({"scheduler": {"type": "OneCycle", "params": {"cycle_min_lr": 1e-4, "cycle_max_lr": 1e-3,
            "cycle_first_step_size": 7, "cycle_second_step_size": 0, "cycle_first_stair_count": 2,
            "decay_step_size": 3, "decay_lr_rate": 0.5, "cycle_momentum": false}}})",
        R"({"scheduler": {"type": "LRRangeTest", "params": {"lr_range_test_staircase": true}}})",
        R"({"scheduler": {"type": "WarmupLR", "params": {"last_batch_iteration": 20}}})",
        R"({"optimizer": {"type": "adam", "params": {"lr": 0.1, "betas": [0.1, 0.3],
            "eps": 1e-300, "adam_w_mode": false}}, "train_batch_size": 8})"}) {
    expect_round_trip(parse(text));
    DsConfig resolved = parse(text);
    resolved.resolve_batch(2);
    resolved.set_total_steps(100);
    expect_round_trip(resolved);
  }
}

TEST(DsConfigFiles, ReadyConfigurationsAreReadAndRoundTrip) {
  const std::filesystem::path directory = STRATA_CONFIGS;
  const std::vector<std::pair<std::string, Precision>> files = {
      {"ds_config_nvme_bf16.json", Precision::kBf16},
      {"ds_config_nvme_fp32.json", Precision::kFp32},
      {"ds_config_cpu_bf16.json", Precision::kBf16},
      {"ds_config_fp16_nvme.json", Precision::kFp16}};
  for (const auto& [name, precision] : files) {
    DsConfig config = DsConfig::from_file(directory / name);
    EXPECT_EQ(config.precision(), precision) << name;
    expect_round_trip(config);
    EXPECT_NO_THROW(config.resolve_batch(1)) << name;
  }
}

TEST(DsConfigFiles, AFileThatCannotBeReadSaysWhy) {
  const TempDirectory directory;
  EXPECT_THROW((void)DsConfig::from_file(directory.path() / "missing.json"), IoError);
  EXPECT_THROW((void)DsConfig::from_file(directory.path()), DataError);
  const auto large = directory.write("large.json", std::string(2 << 20, ' '));
  EXPECT_THROW((void)DsConfig::from_file(large), DataError);
}

}  // namespace
}  // namespace strata::formats::ds_config_test
