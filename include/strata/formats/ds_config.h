#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "strata/base/io_backend.h"
#include "strata/base/number_format.h"

/// \file
/// DeepSpeed's configuration file, read as it is: in Hjson (see JsonRole), numbers and booleans
/// also in quotes.
///
/// Every key that DeepSpeed 0.19 documents is known. Those that have an effect in Strata are the
/// fields below; those that do not change what is trained are accepted, checked for their type and
/// listed in `ignored_keys`. What would silently train something else than the file says is a
/// ConfigError with file, line, key and what to write instead; so is a wrong type, an unknown key
/// in a section, and at the top of the file one that is nearly a known key or belongs elsewhere.
/// All errors of a file are in one ConfigError. Other keys at the top are named in `notes`, as
/// DeepSpeed does not read them either; keys that begin with _, # or // are comments.
///
/// "auto" is accepted where Hugging Face's Trainer and Accelerate write it. It means the value of a
/// key that is absent, except for
///   optimizer.params.lr               5e-5, as in the Trainer (absent: 1e-3, as in DeepSpeed)
///   scheduler.params.warmup_num_steps  0, as in the Trainer (absent: 1000)
///   scheduler.params.warmup_max_lr     optimizer.params.lr
///   scheduler.params.total_num_steps   the length of the run, see `set_total_steps`
///   bf16.enabled                       true, unless fp16.enabled is true
/// A file without the section optimizer means the Trainer's AdamW at 5e-5.
/// Strata's own keys stand under "strata"; see `StrataConfig`.

namespace strata::formats {

enum class OptimizerType : std::uint8_t { kAdam, kAdamW, kSgd, kAdagrad, kLion };

/// "optimizer". A file may also use the Trainer's names of AdamW: adamw_torch, adamw_torch_fused,
/// and, with moments of 8 bits (StatesConfig), adamw_8bit, adamw_bnb_8bit and paged_adamw_8bit.
/// DeepSpeed's "Adam" is AdamW too unless params.adam_w_mode is false. The other
/// optimizers' defaults are DeepSpeed's as well; a parameter that an optimizer does not have keeps
/// its default and means nothing.
struct OptimizerConfig {
  OptimizerType type = OptimizerType::kAdamW;  ///< type that the file names
  double lr = 1e-3;                            ///< a file's default for Adagrad is 1e-2
  double beta1 = 0.9;                          ///< Adam, AdamW, Lion
  double beta2 = 0.999;                        ///< Adam, AdamW, Lion
  double eps = 1e-8;            ///< Adam, AdamW, Adagrad; a file's default for Adagrad is 1e-10
  double weight_decay = 0.0;    ///< 0 for AdamW as well: DeepSpeed's default, not torch's 0.01
  bool adam_w_mode = true;      ///< Adam
  bool bias_correction = true;  ///< Adam, AdamW
  double momentum = 0.0;        ///< SGD
  double dampening = 0.0;       ///< SGD
  bool nesterov = false;        ///< SGD
  double lr_decay = 0.0;        ///< Adagrad

  [[nodiscard]] bool is_adam() const {
    return type == OptimizerType::kAdam || type == OptimizerType::kAdamW;
  }
  /// Whether `type` and `adam_w_mode` mean AdamW's decay; else Adam's L2 term.
  [[nodiscard]] bool decoupled_weight_decay() const {
    return type == OptimizerType::kAdamW || adam_w_mode;
  }
  /// Whether it keeps a first moment: all but Adagrad and SGD without momentum.
  [[nodiscard]] bool keeps_m() const {
    return is_adam() || type == OptimizerType::kLion ||
           (type == OptimizerType::kSgd && momentum != 0.0);
  }
  /// Whether it keeps a second moment: Adam, AdamW and Adagrad.
  [[nodiscard]] bool keeps_v() const { return is_adam() || type == OptimizerType::kAdagrad; }
  bool operator==(const OptimizerConfig&) const = default;
};

enum class SchedulerType : std::uint8_t {
  kNone,
  kWarmupLR,
  kWarmupDecayLR,
  kWarmupCosineLR,
  kOneCycle,
  kLRRangeTest,
  // Those of transformers' Trainer:
  kLinear,
  kCosine,
  kConstant,
  kConstantWithWarmup,
  kCosineWithMinLr
};
enum class WarmupType : std::uint8_t { kLog, kLinear };

/// "scheduler". Steps are optimizer steps. A file may also give warmup_num_steps and
/// total_num_steps the names that transformers has for them, num_warmup_steps and
/// num_training_steps.
struct SchedulerConfig {
  SchedulerType type = SchedulerType::kNone;
  double warmup_min_lr = 0.0;  ///< WarmupLR, WarmupDecayLR
  /// WarmupLR, WarmupDecayLR: the rate at the end of the warm-up. nullopt: the optimizer's.
  std::optional<double> warmup_max_lr = std::nullopt;
  std::int64_t warmup_num_steps = 1000;  ///< a file's default for the Trainer's schedules is 0
  WarmupType warmup_type = WarmupType::kLog;
  std::int64_t total_num_steps = 0;  ///< where `ends`; 0: "auto", not set yet
  double warmup_min_ratio = 0.0;     ///< WarmupCosineLR
  double cos_min_ratio = 1e-4;       ///< WarmupCosineLR
  double num_cycles = 0.5;           ///< Cosine, CosineWithMinLr: waves of the cosine
  // CosineWithMinLr: the lowest rate, as a rate or as a part of the optimizer's; one of them.
  std::optional<double> min_lr = std::nullopt;
  std::optional<double> min_lr_rate = std::nullopt;
  // OneCycle: up in the first steps, down in the second, then decay.
  double cycle_min_lr = 0.0;
  double cycle_max_lr = 0.0;
  std::int64_t cycle_first_step_size = 2000;
  std::optional<std::int64_t> cycle_second_step_size = std::nullopt;  ///< nullopt: as the first
  std::int64_t cycle_first_stair_count = 0;                           ///< 0: no stairs
  std::optional<std::int64_t> cycle_second_stair_count = std::nullopt;
  double decay_lr_rate = 0.0;
  std::int64_t decay_step_size = 0;
  bool cycle_momentum = true;  ///< betas are (a rate that mirrors the learning rate's, 0.99)
  double cycle_min_mom = 0.8;
  double cycle_max_mom = 0.9;
  // LRRangeTest
  double lr_range_test_min_lr = 1e-3;
  std::int64_t lr_range_test_step_size = 2000;
  double lr_range_test_step_rate = 1.0;
  bool lr_range_test_staircase = false;
  /// Where the schedule begins; -1: at its beginning. As in DeepSpeed, a schedule that begins later
  /// leaves the first optimizer step the optimizer's rate.
  std::int64_t last_batch_iteration = -1;

  /// Whether it is a cosine of transformers' Trainer.
  [[nodiscard]] bool is_trainers_cosine() const {
    return type == SchedulerType::kCosine || type == SchedulerType::kCosineWithMinLr;
  }
  /// Whether it is a schedule of transformers' Trainer, whose first step is taken when the schedule
  /// has started.
  [[nodiscard]] bool is_trainers() const {
    return type == SchedulerType::kLinear || type == SchedulerType::kConstant ||
           type == SchedulerType::kConstantWithWarmup || is_trainers_cosine();
  }
  /// Whether the schedule depends on the length of the run.
  [[nodiscard]] bool ends() const {
    return type == SchedulerType::kWarmupDecayLR || type == SchedulerType::kWarmupCosineLR ||
           type == SchedulerType::kLinear || is_trainers_cosine();
  }
  bool operator==(const SchedulerConfig&) const = default;
};

/// "bf16".
struct Bf16Config {
  bool enabled = false;
  /// DeepSpeed's word for a policy of kSkip in bf16; nullopt: the file does not say.
  std::optional<bool> check_grad_overflow = std::nullopt;
  bool operator==(const Bf16Config&) const = default;
};

/// "fp16".
struct Fp16Config {
  bool enabled = false;
  double loss_scale = 0.0;  ///< 0: dynamic
  std::int64_t initial_scale_power = 16;
  std::int64_t loss_scale_window = 1000;  ///< steps without overflow before the scale doubles
  std::int64_t hysteresis = 2;            ///< overflows before the scale halves
  bool consecutive_hysteresis = false;
  double min_loss_scale = 1.0;
  /// Whether a model's floating inputs are cast to fp16; nullopt: the file does not say.
  std::optional<bool> auto_cast = std::nullopt;

  [[nodiscard]] bool dynamic_loss_scale() const { return loss_scale == 0.0; }
  bool operator==(const Fp16Config&) const = default;
};

enum class OffloadDevice : std::uint8_t { kNone, kCpu, kNvme };

/// "zero_optimization.offload_param" and ".offload_optimizer".
struct OffloadConfig {
  OffloadDevice device = OffloadDevice::kNone;
  std::string nvme_path;  ///< empty: not given
  // Bounds, where the file names them.
  std::optional<std::int64_t> buffer_count = std::nullopt;  ///< buffers on the way to nvme and back
  // Of offload_param alone, in elements of weights:
  std::optional<std::int64_t> buffer_size = std::nullopt;  ///< of one buffer
  std::optional<std::int64_t> max_in_cpu = std::nullopt;  ///< stay in host memory, of those on nvme
  bool operator==(const OffloadConfig&) const = default;
};

/// "zero_optimization". Counts of elements, as in DeepSpeed: not bytes.
struct ZeroConfig {
  /// 3 when the file does not say. It is what several ranks share (PlanInput::stage); all stages
  /// train the same numbers.
  std::int64_t stage = 3;
  OffloadConfig offload_param;
  OffloadConfig offload_optimizer;
  std::int64_t sub_group_elements = 1'000'000'000;  ///< cap of the optimizer's window; a file's 0
                                                    ///< means the default
  std::int64_t prefetch_elements = 50'000'000;      ///< elements fetched ahead of use
  std::int64_t live_elements_max = 1'000'000'000;   ///< most kept unsharded on the device
  // Where the file names them:
  std::optional<std::int64_t> reuse_distance_max = std::nullopt;  ///< kept only if used within that
  std::optional<std::int64_t> persistence_threshold = std::nullopt;  ///< smaller units stay
  std::optional<std::int64_t> persistence_model_max = std::nullopt;  ///< that much of them in all
  bool operator==(const ZeroConfig&) const = default;
};

/// "activation_checkpointing".
struct ActivationCheckpointingConfig {
  bool cpu_checkpointing = false;  ///< inputs of recomputed units wait in host memory
  bool operator==(const ActivationCheckpointingConfig&) const = default;
};

/// Bytes that inputs of recomputed units may take between forward and backward.
struct ActivationBytes {
  std::uint64_t host = 0, nvme = 0;
};

/// "aio". Absent keys take Strata's defaults: DeepSpeed's (8, 1) are those of one file handle.
struct AioConfig {
  std::int64_t block_bytes = 1 << 20;
  std::int64_t queue_depth = 32;
  std::int64_t threads = 4;  ///< intra_op_parallelism (older: thread_count, num_threads)
  bool operator==(const AioConfig&) const = default;
};

/// "strata.states": how the optimizer's states rest, see number_format.h.
struct StatesConfig {
  MomentFormat moments = MomentFormat::kFp32;
  MasterFormat master = MasterFormat::kFp32;  ///< k24Bit with bf16 only
  bool operator==(const StatesConfig&) const = default;
};

/// What becomes of a step in which a gradient is Inf or NaN: an error that names the parameter, or
/// it is left out on all ranks. kDefault: by the format, see DsConfig::skips_nonfinite.
enum class NonfinitePolicy : std::uint8_t { kDefault, kError, kSkip };

/// How the ranks of a host have the directories of the nvme tier: each stripes its files over all
/// of them, or they are dealt out and each has its own.
enum class NvmeOfRanks : std::uint8_t { kStriped, kOwn };

/// An element of "strata.parameter_groups": hyperparameters of the parameters that match a pattern
/// of `params`, written like strata.no_decay; what it does not name is as for all others. A
/// parameter that matches several belongs to the last one. See zero3/parameter_group.h.
struct ParameterGroupConfig {
  std::vector<std::string> params;  ///< not empty
  std::optional<double> lr;         ///< in place of the schedule's rate
  std::optional<double> lr_scale;   ///< multiplies it; not beside `lr`
  std::optional<double> weight_decay;
  bool operator==(const ParameterGroupConfig&) const = default;
};

/// "strata": what DeepSpeed has no word for.
///
///     "strata": {
///       "budget": {"host": "4GiB", "nvme": "60GiB", "device": "20GiB"},
///       "nvme": ["/mnt/disk0/strata", "/mnt/disk1/strata"],
///       "nvme_of_ranks": "striped" | "own",
///       "io": "auto" | "io_uring" | "libaio" | "threads",
///       "no_decay": ["*.bias", "ln_*"],
///       "keep_fp32": ["ln_*"],
///       "freeze": ["wte.*", "h.[0-3].*"],
///       "parameter_groups": [{"params": ["lm_head.*"], "lr": 1e-5, "weight_decay": 0.1}],
///       "recompute": true | false | "auto",
///       "activations": {"host": "1GiB", "nvme": "8GiB"},
///       "chunk_bytes": "1MiB",
///       "tile_bytes": "auto" | "256MiB",
///       "window_elements": 16777216,
///       "host_cache": true,
///       "threads": 8,
///       "states": {"moments": "fp32" | "bf16" | "int8", "master": "fp32" | "24bit"},
///       "nonfinite": "error" | "skip",
///       "simd": "AVX2"
///     }
struct StrataConfig {
  std::optional<std::uint64_t> device_budget_bytes;  ///< nullopt: no bound named
  std::optional<std::uint64_t> host_budget_bytes;
  std::optional<std::uint64_t> nvme_budget_bytes;
  /// Most bytes of weights of a vocabulary's tile; nullopt or 0: the device budget decides whether
  /// a vocabulary is cut, and how.
  std::optional<std::uint64_t> tile_bytes;
  std::vector<std::string> nvme_directories;
  NvmeOfRanks nvme_of_ranks = NvmeOfRanks::kStriped;
  IoBackend io = IoBackend::kAuto;
  std::vector<std::string> no_decay;   ///< patterns, see DsConfig::decays
  std::vector<std::string> keep_fp32;  ///< patterns, see DsConfig::fp32_patterns
  /// Patterns, as those of no_decay, of parameters that are frozen: no gradient, no optimizer
  /// state.
  std::vector<std::string> freeze;
  std::vector<ParameterGroupConfig> parameter_groups;
  /// Whether activations are recomputed in backward. nullopt: "auto", which a program that knows
  /// its model settles before it makes an engine; an engine alone recomputes.
  std::optional<bool> recompute = true;
  std::optional<std::uint64_t> activations_host_bytes;  ///< nullopt: not named
  std::optional<std::uint64_t> activations_nvme_bytes;
  std::uint64_t chunk_bytes = 1u << 20;  ///< chunk of the shard store
  std::int64_t window_elements = 0;      ///< the optimizer's window; 0: the plan decides
  std::int64_t threads = 0;              ///< threads of the optimizer; 0: one per core
  bool overlap_step = true;              ///< steps may go on beside the next forward
  bool step_under_backward = false;      ///< and begin under backward, in train_batch
  bool host_cache = true;  ///< what a named host budget leaves free keeps states of the nvme tier
  StatesConfig states;
  NonfinitePolicy nonfinite = NonfinitePolicy::kDefault;
  /// Instruction set of the engine's arithmetic (optim_cpu/instruction_set.h); empty: the best, or
  /// STRATA_SIMD's. Checked when an engine is made.
  std::string simd;
  bool operator==(const StrataConfig&) const = default;
};

/// Lines about a file, for people: they are no part of what a configuration says, so any two are
/// equal.
struct ConfigNotes : std::vector<std::string> {
  bool operator==(const ConfigNotes&) const { return true; }
};

/// A configuration, checked and resolved. An ordinary value: programs may change fields (a
/// command-line flag, say) before they make an engine of it.
struct DsConfig {
  std::string name;  ///< name of the file, for messages

  /// Sequences per optimizer step over all ranks, per forward of a rank, and forwards per step.
  /// 0: not given or "auto"; none is 0 after `resolve_batch`.
  std::int64_t train_batch_size = 0;
  std::int64_t train_micro_batch_size_per_gpu = 0;
  std::int64_t gradient_accumulation_steps = 0;

  std::int64_t steps_per_print = 0;  ///< 0: not given
  double gradient_clipping = 1.0;    ///< global L2 norm; 1.0 when absent, as in DeepSpeed; 0: off

  OptimizerConfig optimizer;
  SchedulerConfig scheduler;
  Bf16Config bf16;
  Fp16Config fp16;
  ZeroConfig zero;
  ActivationCheckpointingConfig activation_checkpointing;
  AioConfig aio;
  StrataConfig strata;

  /// Keys of the file that have no effect here, in the order of the file.
  std::vector<std::string> ignored_keys;
  /// Notes for the person who runs the file: defaults taken for keys that it leaves out, and keys
  /// that no one reads.
  ConfigNotes notes;

  /// Throws one ConfigError with all that is wrong in the file; IoError when it cannot be read.
  [[nodiscard]] static DsConfig from_file(const std::filesystem::path& path);
  [[nodiscard]] static DsConfig from_text(std::string_view text, std::string name);

  /// Works out the batch: train_batch_size = micro * accumulation * world_size. Any two give the
  /// third; train_batch_size or the micro-batch alone assumes an accumulation of 1; without both,
  /// the micro-batch is 8, as in the Trainer.
  /// Throws ConfigError, stating the product, when the three do not multiply.
  void resolve_batch(int world_size);

  /// Tells the length of the run to a schedule whose total_num_steps is "auto".
  void set_total_steps(std::int64_t optimizer_steps);

  [[nodiscard]] Precision precision() const;
  /// The formats of all states: precision, `strata.states`, and the moments that the optimizer
  /// keeps.
  [[nodiscard]] StateFormat state_format() const;

  /// Room for activations: what strata.activations names. With cpu_checkpointing and no bytes named
  /// it is 1 GiB of host memory, and at most an eighth of a host budget.
  [[nodiscard]] ActivationBytes activation_bytes() const;

  /// Directories for the nvme tier: strata.nvme, else the nvme_paths of the offload sections, each
  /// once. Empty: none is named.
  [[nodiscard]] std::vector<std::string> nvme_directories() const;

  /// Whether weight decay applies to a parameter: no pattern of strata.no_decay matches its full
  /// name or its part after a dot (name_pattern.h).
  [[nodiscard]] bool decays(std::string_view parameter_name) const;

  /// Patterns (strata.keep_fp32, written like strata.no_decay) of the parameters and floating
  /// buffers that a run of 16 bits keeps and computes in fp32. Empty in fp32, where all are.
  [[nodiscard]] std::vector<std::string> fp32_patterns() const;

  /// Whether a step in which a gradient is Inf or NaN is skipped: strata.nonfinite says so, else
  /// bf16.check_grad_overflow, else fp16 does, which finds its loss scale that way. Otherwise it is
  /// an error.
  [[nodiscard]] bool skips_nonfinite() const;

  /// The configuration in effect as JSON that `from_text` reads back to the same values. Beside
  /// every count of elements stands "<key>_bytes" with what it comes to; these are for people and
  /// are skipped when read.
  [[nodiscard]] std::string resolved_json() const;

  bool operator==(const DsConfig&) const = default;
};

}  // namespace strata::formats
