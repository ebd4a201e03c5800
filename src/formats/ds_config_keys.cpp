#include "formats/ds_config_keys.h"

#include <algorithm>
#include <array>
#include <limits>
#include <span>

#include "formats/config_scalar.h"
#include "strata/formats/json.h"

namespace strata::formats {
namespace {

// ---- shorthand for the list --------------------------------------------------------------------

/// The field at the end of a chain of members.
template <auto... Members>
auto& at(DsConfig& config) {
  return (config.*....*Members);
}

template <auto... Members>
constexpr ChoiceField choice(std::span<const std::string_view> words) {
  return {words, [](DsConfig& config) { return static_cast<std::size_t>(at<Members...>(config)); },
          [](DsConfig& config, std::size_t index) {
            auto& field = at<Members...>(config);
            field = static_cast<std::remove_reference_t<decltype(field)>>(index);
          }};
}

constexpr std::uint32_t bit(JsonType type) { return 1u << static_cast<unsigned>(type); }
constexpr std::uint32_t kBool = bit(JsonType::kBoolean);
constexpr std::uint32_t kWhole = bit(JsonType::kInteger) | bit(JsonType::kNumber);
constexpr std::uint32_t kNumber = kWhole;
constexpr std::uint32_t kText = bit(JsonType::kString);
constexpr std::uint32_t kList = bit(JsonType::kArray);
constexpr std::uint32_t kObject = bit(JsonType::kObject);
constexpr std::uint32_t kNull = bit(JsonType::kNull);

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kBelowOne = 1.0 - std::numeric_limits<double>::epsilon() / 2;
constexpr std::int64_t kStepsMax = std::int64_t{1} << 53;  // exact in a double
constexpr double kAboveZero = std::numeric_limits<double>::denorm_min();

constexpr std::array<std::string_view, 5> kOptimizerTypes = {"Adam", "AdamW", "SGD", "Adagrad",
                                                             "Lion"};
constexpr std::array<std::string_view, 6> kSchedulerTypes = {
    "", "WarmupLR", "WarmupDecayLR", "WarmupCosineLR", "OneCycle", "LRRangeTest"};
constexpr std::array<std::string_view, 2> kWarmupTypes = {"log", "linear"};
constexpr std::array<std::string_view, 3> kDevices = {"none", "cpu", "nvme"};
// All backends but the last, which moves nothing.
constexpr std::span kIoBackends = std::span(kIoBackendNames).first<4>();
constexpr std::array<std::string_view, 3> kMomentFormats = {
    name_of(MomentFormat::kFp32), name_of(MomentFormat::kBf16), name_of(MomentFormat::kInt8)};
constexpr std::array<std::string_view, 2> kMasterFormats = {name_of(MasterFormat::kFp32),
                                                            name_of(MasterFormat::k24Bit)};

std::uint64_t weight_element_bytes(const DsConfig& config) {
  return weight_bytes(config.precision());
}

/// All states of a parameter and its gradient.
std::uint64_t window_element_bytes(const DsConfig& config) {
  std::uint64_t bytes = 0;
  for (int kind = 0; kind < kStateKindCount; ++kind) {
    bytes += state_bytes(config.state_format(), static_cast<StateKind>(kind));
  }
  return bytes;
}

bool is_adam(const DsConfig& config) { return config.optimizer.is_adam(); }
bool is_sgd(const DsConfig& config) { return config.optimizer.type == OptimizerType::kSgd; }
bool is_adagrad(const DsConfig& config) { return config.optimizer.type == OptimizerType::kAdagrad; }
bool has_betas(const DsConfig& config) {
  return is_adam(config) || config.optimizer.type == OptimizerType::kLion;
}
bool has_eps(const DsConfig& config) { return is_adam(config) || is_adagrad(config); }

bool any_schedule(const DsConfig& config) { return config.scheduler.type != SchedulerType::kNone; }
bool ending_schedule(const DsConfig& config) { return config.scheduler.ends(); }
bool cosine_schedule(const DsConfig& config) {
  return config.scheduler.type == SchedulerType::kWarmupCosineLR;
}
bool one_cycle(const DsConfig& config) { return config.scheduler.type == SchedulerType::kOneCycle; }
bool range_test(const DsConfig& config) {
  return config.scheduler.type == SchedulerType::kLRRangeTest;
}
bool warmup_schedule(const DsConfig& config) {
  return any_schedule(config) && !one_cycle(config) && !range_test(config);
}
bool rate_schedule(const DsConfig& config) {
  return warmup_schedule(config) && !cosine_schedule(config);
}

// ---- sections that ask for nothing -------------------------------------------------------------

std::optional<JsonValue> member(const JsonValue& value, std::string_view name) {
  return value.is(JsonType::kObject) ? value.find(name) : std::nullopt;
}

/// The sections that are off until they say otherwise.
bool is_not_enabled(const JsonValue& section) {
  const auto enabled = member(section, "enabled");
  return section.is(JsonType::kObject) && (!enabled || !bool_of(*enabled));
}

/// The sections that are on unless they say otherwise.
bool is_disabled(const JsonValue& section) {
  const auto enabled = member(section, "enabled");
  return enabled && !bool_of(*enabled);
}

/// compression_training has a section for each method, each with settings that its groups share.
bool compresses_nothing(const JsonValue& section) {
  if (!section.is(JsonType::kObject)) return false;
  for (const auto& [name, method] : section.members()) {
    const auto shared = member(method, "shared_parameters");
    if (!is_disabled(shared ? *shared : method)) return false;
  }
  return true;
}

bool is_one_way(const JsonValue& section) {
  const auto ways = member(section, "autotp_size");
  if (ways) return int64_of(*ways) <= 1;
  return is_disabled(section) || (section.is(JsonType::kObject) && section.members().empty());
}

/// keep_in_fp32_modules: "auto" takes lists that transformers' models have and LibTorch's do not.
bool names_no_module(const JsonValue& value) {
  if (value.is(JsonType::kArray)) return value.elements().empty();
  return value.is(JsonType::kString) && value.as_string() == "auto";
}

constexpr NumberField not_negative(FieldOf<double> field) { return {field, 0, kInfinity}; }
constexpr NumberField positive(FieldOf<double> field) { return {field, kAboveZero, kInfinity}; }
constexpr NumberField below_one(FieldOf<double> field) { return {field, 0, kBelowOne}; }
constexpr NumberField ratio(FieldOf<double> field) { return {field, 0, 1}; }
constexpr IntegerField whole(FieldOf<std::int64_t> field, std::int64_t min,
                             std::int64_t max = INT64_MAX) {
  return {.field = field, .min = min, .max = max};
}
/// A batch size, bounded so that the product of three fits into 128 bits.
constexpr IntegerField size_or_auto(FieldOf<std::int64_t> field) {
  return {.field = field, .min = 1, .max = INT32_MAX, .zero_is_auto = true};
}
constexpr IntegerField elements(FieldOf<std::int64_t> field, std::int64_t min,
                                ElementBytes bytes_per_element) {
  return {.field = field, .min = min, .bytes_per_element = bytes_per_element};
}

constexpr ConfigKey key(std::string_view path, const KeyTarget& target) {
  return {.path = path, .target = target};
}
constexpr ConfigKey unused(std::string_view path, std::uint32_t types) {
  return key(path, WithoutEffect{types});
}
constexpr ConfigKey only_false(std::string_view path, std::string_view advice) {
  return key(path, OnlyFalse{advice});
}
constexpr ConfigKey only_true(std::string_view path, std::string_view advice) {
  return key(path, OnlyTrue{advice});
}
constexpr ConfigKey only(double value, std::string_view path, std::string_view advice) {
  return key(path, OnlyNumber{value, advice});
}
constexpr ConfigKey refused(std::string_view path, std::string_view advice,
                            bool (*is_off)(const JsonValue&) = nullptr) {
  return key(path, Refused{advice, is_off});
}

using C = DsConfig;
using O = OptimizerConfig;
using S = SchedulerConfig;
using F = Fp16Config;
using Z = ZeroConfig;
using A = ActivationCheckpointingConfig;
using T = StrataConfig;

// ---- the list ----------------------------------------------------------------------------------

constexpr ConfigKey kKeys[] = {
    // batch and progress
    key("train_batch_size", size_or_auto(at<&C::train_batch_size>)).or_auto().or_null(),
    key("train_micro_batch_size_per_gpu", size_or_auto(at<&C::train_micro_batch_size_per_gpu>))
        .or_auto()
        .or_null(),
    key("gradient_accumulation_steps", size_or_auto(at<&C::gradient_accumulation_steps>))
        .or_auto()
        .or_null(),
    key("steps_per_print", IntegerField{.field = at<&C::steps_per_print>,
                                        .min = 1,
                                        .max = INT32_MAX,
                                        .zero_is_auto = true,
                                        .infinity_is_max = true})
        .or_auto()
        .or_null(),
    key("gradient_clipping", not_negative(at<&C::gradient_clipping>)).or_auto().or_bool(),

    // optimizer
    key("optimizer.type", choice<&C::optimizer, &O::type>(kOptimizerTypes)),
    key("optimizer.params.lr", not_negative(at<&C::optimizer, &O::lr>)).or_auto([](C& c) {
      c.optimizer.lr = 5e-5;
    }),
    key("optimizer.params.betas", BetasField{}).or_auto().only_for(has_betas),
    key("optimizer.params.eps", positive(at<&C::optimizer, &O::eps>)).or_auto().only_for(has_eps),
    key("optimizer.params.weight_decay", not_negative(at<&C::optimizer, &O::weight_decay>))
        .or_auto(),
    key("optimizer.params.adam_w_mode", BoolField{at<&C::optimizer, &O::adam_w_mode>})
        .only_for(is_adam),
    key("optimizer.params.bias_correction", BoolField{at<&C::optimizer, &O::bias_correction>})
        .only_for(is_adam),
    key("optimizer.params.momentum", not_negative(at<&C::optimizer, &O::momentum>))
        .only_for(is_sgd),
    key("optimizer.params.dampening", not_negative(at<&C::optimizer, &O::dampening>))
        .only_for(is_sgd),
    key("optimizer.params.nesterov", BoolField{at<&C::optimizer, &O::nesterov>}).only_for(is_sgd),
    key("optimizer.params.lr_decay", not_negative(at<&C::optimizer, &O::lr_decay>))
        .only_for(is_adagrad),
    key("optimizer.params.initial_accumulator_value",
        OnlyNumber{0, "the sums of squares begin at nothing"})
        .only_for(is_adagrad),
    // For torch_adam the reader takes its default weight_decay; the rest is the same arithmetic.
    unused("optimizer.params.torch_adam", kBool).only_for(is_adam),
    only_true("optimizer.params.fp32_optimizer_states",
              "write \"strata\": {\"states\": {\"moments\": \"bf16\"}} at the top of the file for "
              "moments of 16 bits")
        .only_for(is_adam),
    only_false("optimizer.params.amsgrad", "AMSGrad is not implemented"),
    only_false("optimizer.params.maximize", "the loss is minimized; change its sign"),
    unused("optimizer.params.foreach", kBool | kNull),
    unused("optimizer.params.fused", kBool | kNull),
    unused("optimizer.params.capturable", kBool),
    unused("optimizer.params.differentiable", kBool),
    unused("optimizer.params.set_grad_none", kBool),
    refused("optimizer.params.max_grad_norm",
            "write gradient_clipping at the top of the file instead"),
    unused("optimizer.legacy_fusion", kBool),

    // scheduler
    key("scheduler.type", choice<&C::scheduler, &S::type>(kSchedulerTypes)).or_null(),
    key("scheduler.params.warmup_min_lr", not_negative(at<&C::scheduler, &S::warmup_min_lr>))
        .or_auto()
        .only_for(rate_schedule),
    key("scheduler.params.warmup_max_lr",
        OptionalNumberField{at<&C::scheduler, &S::warmup_max_lr>, 0, kInfinity})
        .or_auto([](C& c) { c.scheduler.warmup_max_lr.reset(); })
        .or_null()
        .only_for(rate_schedule),
    key("scheduler.params.warmup_num_steps", whole(at<&C::scheduler, &S::warmup_num_steps>, 0))
        .or_auto([](C& c) { c.scheduler.warmup_num_steps = 0; })
        .only_for(warmup_schedule),
    key("scheduler.params.warmup_type", choice<&C::scheduler, &S::warmup_type>(kWarmupTypes))
        .or_auto()
        .only_for(warmup_schedule),
    key("scheduler.params.total_num_steps", size_or_auto(at<&C::scheduler, &S::total_num_steps>))
        .or_auto()
        .only_for(ending_schedule),
    key("scheduler.params.warmup_min_ratio", ratio(at<&C::scheduler, &S::warmup_min_ratio>))
        .or_auto()
        .only_for(cosine_schedule),
    key("scheduler.params.cos_min_ratio", ratio(at<&C::scheduler, &S::cos_min_ratio>))
        .or_auto()
        .only_for(cosine_schedule),
    key("scheduler.params.cycle_min_lr", not_negative(at<&C::scheduler, &S::cycle_min_lr>))
        .only_for(one_cycle),
    key("scheduler.params.cycle_max_lr", not_negative(at<&C::scheduler, &S::cycle_max_lr>))
        .only_for(one_cycle),
    key("scheduler.params.decay_lr_rate", not_negative(at<&C::scheduler, &S::decay_lr_rate>))
        .only_for(one_cycle),
    key("scheduler.params.cycle_first_step_size",
        whole(at<&C::scheduler, &S::cycle_first_step_size>, 1, kStepsMax))
        .only_for(one_cycle),
    key("scheduler.params.cycle_second_step_size",
        OptionalIntegerField{at<&C::scheduler, &S::cycle_second_step_size>, 0})
        .or_null()
        .only_for(one_cycle),
    key("scheduler.params.cycle_first_stair_count",
        whole(at<&C::scheduler, &S::cycle_first_stair_count>, 0))
        .only_for(one_cycle),
    key("scheduler.params.cycle_second_stair_count",
        OptionalIntegerField{at<&C::scheduler, &S::cycle_second_stair_count>, 0})
        .or_null()
        .only_for(one_cycle),
    key("scheduler.params.decay_step_size", whole(at<&C::scheduler, &S::decay_step_size>, 0))
        .only_for(one_cycle),
    key("scheduler.params.cycle_momentum", BoolField{at<&C::scheduler, &S::cycle_momentum>})
        .only_for(one_cycle),
    key("scheduler.params.cycle_min_mom", below_one(at<&C::scheduler, &S::cycle_min_mom>))
        .only_for(one_cycle),
    key("scheduler.params.cycle_max_mom", below_one(at<&C::scheduler, &S::cycle_max_mom>))
        .only_for(one_cycle),
    only(0, "scheduler.params.decay_mom_rate", "a momentum that grows without end passes 1")
        .only_for(one_cycle),
    key("scheduler.params.lr_range_test_min_lr",
        not_negative(at<&C::scheduler, &S::lr_range_test_min_lr>))
        .only_for(range_test),
    key("scheduler.params.lr_range_test_step_size",
        whole(at<&C::scheduler, &S::lr_range_test_step_size>, 1))
        .only_for(range_test),
    key("scheduler.params.lr_range_test_step_rate",
        not_negative(at<&C::scheduler, &S::lr_range_test_step_rate>))
        .only_for(range_test),
    key("scheduler.params.lr_range_test_staircase",
        BoolField{at<&C::scheduler, &S::lr_range_test_staircase>})
        .only_for(range_test),
    key("scheduler.params.last_batch_iteration",
        whole(at<&C::scheduler, &S::last_batch_iteration>, -1, kStepsMax))
        .only_for(any_schedule),

    // precision
    key("bf16.enabled", BoolField{at<&C::bf16, &Bf16Config::enabled>}).or_auto(),
    unused("bf16.immediate_grad_update", kBool),
    unused("bf16.check_grad_overflow", kBool),
    only_false("bf16.bf16_master_weights_and_grads",
               "the master weights are exact fp32, or of 24 bits with "
               "\"strata\": {\"states\": {\"master\": \"24bit\"}}"),
    only_false("bf16.bf16_optimizer_states",
               "write \"strata\": {\"states\": {\"moments\": \"bf16\"}} instead"),
    key("bfloat16.enabled", BoolField{at<&C::bf16, &Bf16Config::enabled>})
        .or_auto()
        .older_name_of("bf16.enabled"),
    key("fp16.enabled", BoolField{at<&C::fp16, &F::enabled>}).or_auto(),
    key("fp16.loss_scale", not_negative(at<&C::fp16, &F::loss_scale>)).or_auto(),
    key("fp16.initial_scale_power", whole(at<&C::fp16, &F::initial_scale_power>, 0, 126)).or_auto(),
    key("fp16.loss_scale_window", whole(at<&C::fp16, &F::loss_scale_window>, 0)).or_auto(),
    key("fp16.hysteresis", whole(at<&C::fp16, &F::hysteresis>, 1, INT32_MAX)).or_auto(),
    key("fp16.consecutive_hysteresis", BoolField{at<&C::fp16, &F::consecutive_hysteresis>}),
    key("fp16.min_loss_scale", not_negative(at<&C::fp16, &F::min_loss_scale>)).or_auto(),
    key("fp16.auto_cast", OptionalBoolField{at<&C::fp16, &F::auto_cast>}).or_auto(),
    only_false("fp16.fp16_master_weights_and_grads", "the master weights are always fp32"),
    only_false("amp.enabled", "apex is not there; use bf16 or fp16").or_auto(),
    unused("amp.opt_level", kText).or_auto(),
    only_false("torch_autocast.enabled", "use bf16 or fp16").or_auto(),
    unused("torch_autocast.dtype", kText | kNull),
    unused("torch_autocast.lower_precision_safe_modules", kList | kNull),

    // zero_optimization
    key("zero_optimization.stage", whole(at<&C::zero, &Z::stage>, 0, 3)).or_auto().or_bool(),
    key("zero_optimization.offload_param.device",
        choice<&C::zero, &Z::offload_param, &OffloadConfig::device>(kDevices))
        .or_auto(),
    key("zero_optimization.offload_param.nvme_path",
        PathField{at<&C::zero, &Z::offload_param, &OffloadConfig::nvme_path>})
        .or_auto()
        .or_null(),
    unused("zero_optimization.offload_param.pin_memory", kBool),
    key("zero_optimization.offload_param.buffer_count",
        OptionalIntegerField{at<&C::zero, &Z::offload_param, &OffloadConfig::buffer_count>, 0}),
    key("zero_optimization.offload_param.buffer_size",
        OptionalIntegerField{at<&C::zero, &Z::offload_param, &OffloadConfig::buffer_size>, 0,
                             weight_element_bytes})
        .or_auto(),
    key("zero_optimization.offload_param.max_in_cpu",
        OptionalIntegerField{at<&C::zero, &Z::offload_param, &OffloadConfig::max_in_cpu>, 0,
                             weight_element_bytes})
        .or_auto(),
    key("zero_optimization.offload_optimizer.device",
        choice<&C::zero, &Z::offload_optimizer, &OffloadConfig::device>(kDevices))
        .or_auto(),
    key("zero_optimization.offload_optimizer.nvme_path",
        PathField{at<&C::zero, &Z::offload_optimizer, &OffloadConfig::nvme_path>})
        .or_auto()
        .or_null(),
    unused("zero_optimization.offload_optimizer.pin_memory", kBool),
    key("zero_optimization.offload_optimizer.buffer_count",
        OptionalIntegerField{at<&C::zero, &Z::offload_optimizer, &OffloadConfig::buffer_count>, 0}),
    unused("zero_optimization.offload_optimizer.buffer_size", kWhole).or_auto(),
    unused("zero_optimization.offload_optimizer.pipeline_read", kBool),
    unused("zero_optimization.offload_optimizer.pipeline_write", kBool),
    unused("zero_optimization.offload_optimizer.pipeline", kBool),
    unused("zero_optimization.offload_optimizer.fast_init", kBool),
    unused("zero_optimization.offload_optimizer.ratio", kNumber),
    unused("zero_optimization.offload_optimizer.super_offload", kBool),
    unused("zero_optimization.offload_optimizer.cpuadam_cores_perc", kNumber),
    key("zero_optimization.sub_group_size",
        elements(at<&C::zero, &Z::sub_group_elements>, 0, window_element_bytes))
        .or_auto(),
    key("zero_optimization.stage3_prefetch_bucket_size",
        elements(at<&C::zero, &Z::prefetch_elements>, 0, weight_element_bytes))
        .or_auto(),
    key("zero_optimization.stage3_max_live_parameters",
        elements(at<&C::zero, &Z::live_elements_max>, 0, weight_element_bytes))
        .or_auto(),
    key("zero_optimization.stage3_param_persistence_threshold",
        OptionalIntegerField{at<&C::zero, &Z::persistence_threshold>, 0, weight_element_bytes})
        .or_auto(),
    key("zero_optimization.stage3_model_persistence_threshold",
        OptionalIntegerField{at<&C::zero, &Z::persistence_model_max>, 0, weight_element_bytes})
        .or_auto(),
    key("zero_optimization.stage3_max_reuse_distance",
        OptionalIntegerField{at<&C::zero, &Z::reuse_distance_max>, 0, weight_element_bytes})
        .or_auto(),
    unused("zero_optimization.stage3_gather_16bit_weights_on_model_save", kBool).or_auto(),
    unused("zero_optimization.stage3_gather_fp16_weights_on_model_save", kBool).or_auto(),
    unused("zero_optimization.stage3_module_granularity_threshold", kWhole).or_auto(),
    unused("zero_optimization.stage3_use_all_reduce_for_fetch_params", kBool),
    unused("zero_optimization.stage3_allgather_sequential", kBool),
    unused("zero_optimization.contiguous_gradients", kBool),
    unused("zero_optimization.reduce_scatter", kBool),
    unused("zero_optimization.reduce_bucket_size", kWhole).or_auto(),
    unused("zero_optimization.use_multi_rank_bucket_allreduce", kBool),
    unused("zero_optimization.allgather_partitions", kBool),
    unused("zero_optimization.allgather_bucket_size", kWhole).or_auto(),
    unused("zero_optimization.overlap_comm", kBool | kNull).or_auto(),
    unused("zero_optimization.compute_grad_norm", kBool),
    unused("zero_optimization.load_from_fp32_weights", kBool),
    unused("zero_optimization.elastic_checkpoint", kBool),
    unused("zero_optimization.round_robin_gradients", kBool),
    unused("zero_optimization.ignore_unused_parameters", kBool),
    unused("zero_optimization.legacy_stage1", kBool),
    unused("zero_optimization.parameter_alignment", kBool | kWhole),
    unused("zero_optimization.zero_hpz_partition_size", kWhole),
    only_false("zero_optimization.zero_quantized_weights", "parameters are gathered as they are"),
    only_false("zero_optimization.zero_quantized_nontrainable_weights",
               "parameters are gathered as they are"),
    only_false("zero_optimization.zero_quantized_gradients", "gradients are reduced as they are"),
    refused("zero_optimization.zeropp_loco_param", "gradients are reduced as they are; remove it"),
    unused("zero_optimization.mics_shard_size", kWhole),
    unused("zero_optimization.mics_hierarchical_params_gather", kBool),
    unused("zero_optimization.memory_efficient_linear", kBool),
    unused("zero_optimization.pipeline_loading_checkpoint", kBool),
    unused("zero_optimization.override_module_apply", kBool),
    unused("zero_optimization.log_trace_cache_warnings", kBool),
    unused("zero_optimization.enable_sanity_checks", kBool),
    unused("zero_optimization.save_muon_momentum_buffer_in_memory", kBool),
    unused("zero_optimization.leaf_module", kObject | kNull),
    refused("zero_optimization.zenflow",
            "every gradient takes part in every step here, and ZenFlow applies most of them later; "
            "remove the section"),
    key("zero_optimization.cpu_offload",
        CpuFlag{at<&C::zero, &Z::offload_optimizer, &OffloadConfig::device>})
        .or_null()
        .older_name_of("zero_optimization.offload_optimizer.device"),
    key("zero_optimization.cpu_offload_param",
        CpuFlag{at<&C::zero, &Z::offload_param, &OffloadConfig::device>})
        .or_null()
        .older_name_of("zero_optimization.offload_param.device"),
    key("zero_optimization.cpu_offload_params",
        CpuFlag{at<&C::zero, &Z::offload_param, &OffloadConfig::device>})
        .or_null()
        .older_name_of("zero_optimization.offload_param.device"),
    unused("zero_optimization.cpu_offload_use_pin_memory", kBool | kNull),
    unused("zero_allow_untested_optimizer", kBool),
    unused("zero_force_ds_cpu_optimizer", kBool),

    // activation_checkpointing: strata.recompute says whether, this where
    unused("activation_checkpointing.partition_activations", kBool),
    unused("activation_checkpointing.contiguous_memory_optimization", kBool),
    key("activation_checkpointing.cpu_checkpointing",
        BoolField{at<&C::activation_checkpointing, &A::cpu_checkpointing>}),
    unused("activation_checkpointing.number_checkpoints", kWhole | kBool | kNull),
    unused("activation_checkpointing.synchronize_checkpoint_boundary", kBool),
    unused("activation_checkpointing.profile", kBool),

    // aio
    key("aio.block_size", IntegerField{.field = at<&C::aio, &AioConfig::block_bytes>,
                                       .min = 4096,
                                       .max = 1 << 30,
                                       .multiple_of = 4096})
        .or_auto(),
    key("aio.queue_depth", whole(at<&C::aio, &AioConfig::queue_depth>, 1, 4096)).or_auto(),
    key("aio.intra_op_parallelism", whole(at<&C::aio, &AioConfig::threads>, 1, 1024)).or_auto(),
    key("aio.thread_count", whole(at<&C::aio, &AioConfig::threads>, 1, 1024))
        .or_auto()
        .older_name_of("aio.intra_op_parallelism"),
    key("aio.num_threads", whole(at<&C::aio, &AioConfig::threads>, 1, 1024))
        .or_auto()
        .older_name_of("aio.intra_op_parallelism"),
    unused("aio.single_submit", kBool),
    unused("aio.overlap_events", kBool),
    unused("aio.use_gds", kBool),

    // strata
    key("strata.budget.device", OptionalBytesField{at<&C::strata, &T::device_budget_bytes>}),
    key("strata.budget.host", OptionalBytesField{at<&C::strata, &T::host_budget_bytes>}),
    key("strata.budget.nvme", OptionalBytesField{at<&C::strata, &T::nvme_budget_bytes>}),
    key("strata.nvme", PathListField{at<&C::strata, &T::nvme_directories>}),
    key("strata.io", choice<&C::strata, &T::io>(kIoBackends)),
    key("strata.no_decay", TextListField{at<&C::strata, &T::no_decay>}),
    key("strata.keep_fp32", TextListField{at<&C::strata, &T::keep_fp32>}),
    key("strata.recompute", OptionalBoolField{at<&C::strata, &T::recompute>, /*open_is_auto=*/true})
        .or_auto([](C& c) { c.strata.recompute.reset(); }),
    key("strata.activations.host", OptionalBytesField{at<&C::strata, &T::activations_host_bytes>}),
    key("strata.activations.nvme", OptionalBytesField{at<&C::strata, &T::activations_nvme_bytes>}),
    key("strata.chunk_bytes", BytesField{at<&C::strata, &T::chunk_bytes>, 4096}),
    key("strata.tile_bytes", OptionalBytesField{at<&C::strata, &T::tile_bytes>}).or_auto(),
    key("strata.window_elements",
        elements(at<&C::strata, &T::window_elements>, 0, window_element_bytes)),
    key("strata.overlap_step", BoolField{at<&C::strata, &T::overlap_step>}),
    key("strata.step_under_backward", BoolField{at<&C::strata, &T::step_under_backward>}),
    key("strata.host_cache", BoolField{at<&C::strata, &T::host_cache>}),
    key("strata.threads", whole(at<&C::strata, &T::threads>, 0, 4096)),
    key("strata.states.moments",
        choice<&C::strata, &T::states, &StatesConfig::moments>(kMomentFormats)),
    key("strata.states.master",
        choice<&C::strata, &T::states, &StatesConfig::master>(kMasterFormats)),
    key("strata.simd", TextField{at<&C::strata, &T::simd>}),

    // communication and the rest of the top level
    unused("allgather_size", kWhole),
    unused("managed_gradient_accumulation", kBool),  // refused with accumulation, by the reader
    unused("prescale_gradients", kBool),
    unused("gradient_predivide_factor", kNumber),
    unused("gradient_allreduce_op", kText),
    unused("sparse_gradients", kBool),
    unused("communication_data_type", kText | kNull),
    unused("seq_parallel_communication_data_type", kText | kNull),
    only(1, "sequence_parallel_size", "there is one rank"),
    unused("disable_allgather", kBool),
    unused("use_data_before_expert_parallelism", kBool),
    unused("dump_state", kBool),
    unused("wall_clock_breakdown", kBool),
    unused("memory_breakdown", kBool),
    unused("disable_python_gc", kBool),
    unused("graph_harvesting", kBool),
    unused("vocabulary_size", kWhole | kNull),
    unused("dataloader_drop_last", kBool),
    unused("log_level", kText | kNull),
    unused("checkpoint.tag_validation", kText),
    unused("checkpoint.load_universal", kBool),
    unused("checkpoint.use_node_local_storage", kBool),
    unused("checkpoint.parallel_write.pipeline_stage", kBool),
    unused("checkpoint.writer", kObject | kNull),
    unused("data_types.grad_accum_dtype", kText | kNull),  // these three are judged by the reader
    unused("data_types.param_dtype", kText | kNull),
    unused("data_types.buffer_dtype", kText | kNull),
    refused("data_types.keep_in_fp32_modules",
            "strata.keep_fp32 names what stays in fp32, by patterns of parameters and buffers; "
            "use that, and remove this or leave it \"auto\"",
            names_no_module),

    // logs and profiles
    unused("tensorboard.enabled", kBool),
    unused("tensorboard.output_path", kText),
    unused("tensorboard.job_name", kText),
    unused("wandb.enabled", kBool),
    unused("wandb.group", kText | kNull),
    unused("wandb.team", kText | kNull),
    unused("wandb.project", kText),
    unused("csv_monitor.enabled", kBool),
    unused("csv_monitor.output_path", kText),
    unused("csv_monitor.job_name", kText),
    unused("comet.enabled", kBool),
    unused("comet.samples_log_interval", kWhole),
    unused("comet.project", kText | kNull),
    unused("comet.workspace", kText | kNull),
    unused("comet.api_key", kText | kNull),
    unused("comet.experiment_name", kText | kNull),
    unused("comet.experiment_key", kText | kNull),
    unused("comet.online", kBool | kNull),
    unused("comet.mode", kText | kNull),
    unused("comms_logger.enabled", kBool),
    unused("comms_logger.verbose", kBool),
    unused("comms_logger.prof_all", kBool),
    unused("comms_logger.prof_ops", kList),
    unused("comms_logger.debug", kBool),
    unused("flops_profiler.enabled", kBool),
    unused("flops_profiler.recompute_fwd_factor", kNumber),
    unused("flops_profiler.profile_step", kWhole),
    unused("flops_profiler.module_depth", kWhole),
    unused("flops_profiler.top_modules", kWhole),
    unused("flops_profiler.detailed", kBool),
    unused("flops_profiler.output_file", kText | kNull),
    unused("eigenvalue", kObject),
    unused("autotuning", kObject),
    unused("timers", kObject),
    unused("compile", kObject),
    unused("nebula", kObject),
    unused("datastates_ckpt", kObject),
    unused("hybrid_engine", kObject),
    unused("pipeline", kObject),

    // keys that would train something else
    refused("elasticity", "elastic batch sizes are not there; name the batch sizes",
            is_not_enabled),
    refused("progressive_layer_drop", "layers cannot be dropped; remove the section",
            is_not_enabled),
    refused("curriculum_learning", "curriculum learning is not there; remove the section",
            is_not_enabled),
    refused("data_efficiency",
            "curriculum learning and token dropping are not there; remove the section",
            is_not_enabled),
    refused("compression_training", "compression is not there; remove the section",
            compresses_nothing),
    refused("quantize_training", "quantization is not there; remove the section", is_not_enabled),
    refused("weight_quantization", "quantization is not there; remove the section", is_disabled),
    refused("sparse_attention", "attention belongs to the model; remove the section", is_disabled),
    refused("tensor_parallel",
            "tensor parallelism is not there, and there is one rank; remove the "
            "section",
            is_one_way),
    refused("expert_parallel", "expert parallelism is not there; remove the section",
            is_not_enabled),
};

}  // namespace

std::span<const ConfigKey> config_keys() { return kKeys; }

const ConfigKey* find_config_key(std::string_view path) {
  constexpr std::string_view kSection = "zero_optimization.";
  constexpr std::string_view kPrefix = "zero_optimization.stage3_";
  const auto names = [=](const ConfigKey& key) {
    return key.path == path || (key.path.starts_with(kPrefix) && path.starts_with(kSection) &&
                                key.path.substr(kPrefix.size()) == path.substr(kSection.size()));
  };
  const auto found = std::find_if(std::begin(kKeys), std::end(kKeys), names);
  return found == std::end(kKeys) ? nullptr : &*found;
}

ElementBytes element_bytes_of(const ConfigKey& key) {
  if (const auto* const count = std::get_if<IntegerField>(&key.target)) {
    return count->bytes_per_element;
  }
  const auto* const count = std::get_if<OptionalIntegerField>(&key.target);
  return count != nullptr ? count->bytes_per_element : nullptr;
}

bool is_refused(const ConfigKey& key) {
  return std::holds_alternative<OnlyFalse>(key.target) ||
         std::holds_alternative<OnlyTrue>(key.target) ||
         std::holds_alternative<OnlyNumber>(key.target) ||
         std::holds_alternative<Refused>(key.target);
}

}  // namespace strata::formats
