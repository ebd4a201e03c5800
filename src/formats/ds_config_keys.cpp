#include "formats/ds_config_keys.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "strata/formats/json.h"

namespace strata::formats {
namespace {

// ---- shorthand for the list --------------------------------------------------------------------

/// The field at the end of a chain of members.
template <auto... Members>
constexpr auto at = [](DsConfig& config) -> auto& {
  return (config.*....*Members);
};

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
const double kAboveZero = std::numeric_limits<double>::denorm_min();

constexpr std::array<std::string_view, 2> kOptimizerTypes = {"Adam", "AdamW"};
constexpr std::array<std::string_view, 4> kSchedulerTypes = {"", "WarmupLR", "WarmupDecayLR",
                                                             "WarmupCosineLR"};
constexpr std::array<std::string_view, 2> kWarmupTypes = {"log", "linear"};
constexpr std::array<std::string_view, 3> kDevices = {"none", "cpu", "nvme"};
constexpr std::array<std::string_view, 3> kIoEngines = {"auto", "io_uring", "threads"};

std::uint64_t weight_element_bytes(const DsConfig& config) {
  return weight_bytes(config.precision());
}

/// All states of a parameter and its gradient.
std::uint64_t window_element_bytes(const DsConfig& config) {
  std::uint64_t bytes = 0;
  for (int kind = 0; kind < kStateKindCount; ++kind) {
    bytes += state_bytes(config.precision(), static_cast<StateKind>(kind));
  }
  return bytes;
}

template <SchedulerType... Types>
bool scheduler_is(const DsConfig& config) {
  return ((config.scheduler.type == Types) || ...);
}
constexpr auto any_schedule = scheduler_is<SchedulerType::kWarmupLR, SchedulerType::kWarmupDecayLR,
                                           SchedulerType::kWarmupCosineLR>;
constexpr auto rate_schedule =
    scheduler_is<SchedulerType::kWarmupLR, SchedulerType::kWarmupDecayLR>;
constexpr auto finite_schedule =
    scheduler_is<SchedulerType::kWarmupDecayLR, SchedulerType::kWarmupCosineLR>;
constexpr auto cosine_schedule = scheduler_is<SchedulerType::kWarmupCosineLR>;

ConfigKey key(std::string_view path, KeyTarget target) {
  return {.path = path, .target = std::move(target)};
}

using C = DsConfig;
using O = OptimizerConfig;
using S = SchedulerConfig;
using F = Fp16Config;
using Z = ZeroConfig;
using T = StrataConfig;

// ---- the list ----------------------------------------------------------------------------------

// clang-format off
const ConfigKey kKeys[] = {
  // batch and progress
  key("train_batch_size", IntegerField{.field = at<&C::train_batch_size>, .min = 1, .max = INT32_MAX, .zero_is_auto = true}).or_auto(),
  key("train_micro_batch_size_per_gpu", IntegerField{.field = at<&C::train_micro_batch_size_per_gpu>, .min = 1, .max = INT32_MAX, .zero_is_auto = true}).or_auto(),
  key("gradient_accumulation_steps", IntegerField{.field = at<&C::gradient_accumulation_steps>, .min = 1, .max = INT32_MAX, .zero_is_auto = true}).or_auto(),
  key("steps_per_print", IntegerField{.field = at<&C::steps_per_print>, .min = 1, .zero_is_auto = true}).or_auto().or_null(),
  key("gradient_clipping", NumberField{at<&C::gradient_clipping>, 0, kInfinity}).or_auto(),

  // optimizer
  key("optimizer.type", choice<&C::optimizer, &O::type>(kOptimizerTypes)),
  key("optimizer.params.lr", NumberField{at<&C::optimizer, &O::lr>, 0, kInfinity}).or_auto([](C& c) { c.optimizer.lr = 5e-5; }),
  key("optimizer.params.betas", BetasField{}).or_auto(),
  key("optimizer.params.eps", NumberField{at<&C::optimizer, &O::eps>, kAboveZero, kInfinity}).or_auto(),
  key("optimizer.params.weight_decay", NumberField{at<&C::optimizer, &O::weight_decay>, 0, kInfinity}).or_auto(),
  key("optimizer.params.adam_w_mode", BoolField{at<&C::optimizer, &O::adam_w_mode>}),
  key("optimizer.params.bias_correction", BoolField{at<&C::optimizer, &O::bias_correction>}),
  key("optimizer.params.torch_adam", WithoutEffect{kBool}),
  key("optimizer.params.fp32_optimizer_states", WithoutEffect{kBool}),
  key("optimizer.params.amsgrad", OnlyFalse{"AMSGrad is not implemented"}),
  key("optimizer.params.max_grad_norm", Refused{"write gradient_clipping at the top of the file instead"}),
  key("optimizer.legacy_fusion", WithoutEffect{kBool}),

  // scheduler
  key("scheduler.type", choice<&C::scheduler, &S::type>(kSchedulerTypes)).or_null(),
  key("scheduler.params.warmup_min_lr", NumberField{at<&C::scheduler, &S::warmup_min_lr>, 0, kInfinity}).or_auto().only_for(rate_schedule),
  key("scheduler.params.warmup_max_lr", OptionalNumberField{at<&C::scheduler, &S::warmup_max_lr>, 0, kInfinity}).or_auto([](C& c) { c.scheduler.warmup_max_lr.reset(); }).or_null().only_for(rate_schedule),
  key("scheduler.params.warmup_num_steps", IntegerField{.field = at<&C::scheduler, &S::warmup_num_steps>, .min = 0}).or_auto([](C& c) { c.scheduler.warmup_num_steps = 0; }).only_for(any_schedule),
  key("scheduler.params.warmup_type", choice<&C::scheduler, &S::warmup_type>(kWarmupTypes)).only_for(any_schedule),
  key("scheduler.params.total_num_steps", IntegerField{.field = at<&C::scheduler, &S::total_num_steps>, .min = 1, .zero_is_auto = true}).or_auto().only_for(finite_schedule),
  key("scheduler.params.warmup_min_ratio", NumberField{at<&C::scheduler, &S::warmup_min_ratio>, 0, 1}).or_auto().only_for(cosine_schedule),
  key("scheduler.params.cos_min_ratio", NumberField{at<&C::scheduler, &S::cos_min_ratio>, 0, 1}).or_auto().only_for(cosine_schedule),
  key("scheduler.params.last_batch_iteration", WithoutEffect{kWhole}),

  // precision
  key("bf16.enabled", BoolField{at<&C::bf16, &Bf16Config::enabled>}).or_auto(),
  key("bf16.immediate_grad_update", WithoutEffect{kBool}),
  key("bf16.check_grad_overflow", WithoutEffect{kBool}),
  key("bf16.bf16_master_weights_and_grads", OnlyFalse{"the master weights are always exact fp32"}),
  key("bf16.bf16_optimizer_states", OnlyFalse{"the optimizer states are fp32"}),
  key("bfloat16.enabled", BoolField{at<&C::bf16, &Bf16Config::enabled>}).or_auto().older_name_of("bf16.enabled"),
  key("fp16.enabled", BoolField{at<&C::fp16, &F::enabled>}).or_auto(),
  key("fp16.loss_scale", NumberField{at<&C::fp16, &F::loss_scale>, 0, kInfinity}).or_auto(),
  key("fp16.initial_scale_power", IntegerField{.field = at<&C::fp16, &F::initial_scale_power>, .min = 0, .max = 126}).or_auto(),
  key("fp16.loss_scale_window", IntegerField{.field = at<&C::fp16, &F::loss_scale_window>, .min = 1}).or_auto(),
  key("fp16.hysteresis", IntegerField{.field = at<&C::fp16, &F::hysteresis>, .min = 1, .max = INT32_MAX}).or_auto(),
  key("fp16.consecutive_hysteresis", BoolField{at<&C::fp16, &F::consecutive_hysteresis>}),
  key("fp16.min_loss_scale", NumberField{at<&C::fp16, &F::min_loss_scale>, kAboveZero, kInfinity}).or_auto(),
  key("fp16.auto_cast", WithoutEffect{kBool}).or_auto(),
  key("fp16.fp16_master_weights_and_grads", OnlyFalse{"the master weights are always fp32"}),
  key("amp.enabled", OnlyFalse{"apex is not there; use bf16 or fp16"}).or_auto(),
  key("amp.opt_level", WithoutEffect{kText}).or_auto(),
  key("torch_autocast.enabled", OnlyFalse{"use bf16 or fp16"}).or_auto(),
  key("torch_autocast.dtype", WithoutEffect{kText | kNull}),
  key("torch_autocast.lower_precision_safe_modules", WithoutEffect{kList | kNull}),

  // zero_optimization
  key("zero_optimization.stage", IntegerField{.field = at<&C::zero, &Z::stage>, .min = 0, .max = 3}).or_auto(),
  key("zero_optimization.offload_param.device", choice<&C::zero, &Z::offload_param, &OffloadConfig::device>(kDevices)).or_auto(),
  key("zero_optimization.offload_param.nvme_path", TextField{at<&C::zero, &Z::offload_param, &OffloadConfig::nvme_path>}).or_auto().or_null(),
  key("zero_optimization.offload_param.pin_memory", WithoutEffect{kBool}),
  key("zero_optimization.offload_param.buffer_count", WithoutEffect{kWhole}),
  key("zero_optimization.offload_param.buffer_size", WithoutEffect{kWhole}).or_auto(),
  key("zero_optimization.offload_param.max_in_cpu", WithoutEffect{kWhole}).or_auto(),
  key("zero_optimization.offload_optimizer.device", choice<&C::zero, &Z::offload_optimizer, &OffloadConfig::device>(kDevices)).or_auto(),
  key("zero_optimization.offload_optimizer.nvme_path", TextField{at<&C::zero, &Z::offload_optimizer, &OffloadConfig::nvme_path>}).or_auto().or_null(),
  key("zero_optimization.offload_optimizer.pin_memory", WithoutEffect{kBool}),
  key("zero_optimization.offload_optimizer.buffer_count", WithoutEffect{kWhole}),
  key("zero_optimization.offload_optimizer.buffer_size", WithoutEffect{kWhole}).or_auto(),
  key("zero_optimization.offload_optimizer.pipeline_read", WithoutEffect{kBool}),
  key("zero_optimization.offload_optimizer.pipeline_write", WithoutEffect{kBool}),
  key("zero_optimization.offload_optimizer.pipeline", WithoutEffect{kBool}),
  key("zero_optimization.offload_optimizer.fast_init", WithoutEffect{kBool}),
  key("zero_optimization.offload_optimizer.ratio", WithoutEffect{kNumber}),
  key("zero_optimization.offload_optimizer.super_offload", WithoutEffect{kBool}),
  key("zero_optimization.offload_optimizer.cpuadam_cores_perc", WithoutEffect{kNumber}),
  key("zero_optimization.sub_group_size", IntegerField{.field = at<&C::zero, &Z::sub_group_elements>, .min = 1, .bytes_per_element = window_element_bytes}).or_auto(),
  key("zero_optimization.stage3_prefetch_bucket_size", IntegerField{.field = at<&C::zero, &Z::prefetch_elements>, .min = 0, .bytes_per_element = weight_element_bytes}).or_auto(),
  key("zero_optimization.stage3_max_live_parameters", IntegerField{.field = at<&C::zero, &Z::live_elements_max>, .min = 0, .bytes_per_element = weight_element_bytes}).or_auto(),
  key("zero_optimization.prefetch_bucket_size", IntegerField{.field = at<&C::zero, &Z::prefetch_elements>, .min = 0}).or_auto().older_name_of("zero_optimization.stage3_prefetch_bucket_size"),
  key("zero_optimization.max_live_parameters", IntegerField{.field = at<&C::zero, &Z::live_elements_max>, .min = 0}).or_auto().older_name_of("zero_optimization.stage3_max_live_parameters"),
  key("zero_optimization.stage3_param_persistence_threshold", WithoutEffect{kWhole}).or_auto(),
  key("zero_optimization.stage3_model_persistence_threshold", WithoutEffect{kWhole}).or_auto(),
  key("zero_optimization.stage3_max_reuse_distance", WithoutEffect{kWhole}).or_auto(),
  key("zero_optimization.stage3_gather_16bit_weights_on_model_save", WithoutEffect{kBool}).or_auto(),
  key("zero_optimization.stage3_gather_fp16_weights_on_model_save", WithoutEffect{kBool}).or_auto(),
  key("zero_optimization.stage3_module_granularity_threshold", WithoutEffect{kWhole}).or_auto(),
  key("zero_optimization.stage3_use_all_reduce_for_fetch_params", WithoutEffect{kBool}),
  key("zero_optimization.stage3_allgather_sequential", WithoutEffect{kBool}),
  key("zero_optimization.contiguous_gradients", WithoutEffect{kBool}),
  key("zero_optimization.reduce_scatter", WithoutEffect{kBool}),
  key("zero_optimization.reduce_bucket_size", WithoutEffect{kWhole}).or_auto(),
  key("zero_optimization.use_multi_rank_bucket_allreduce", WithoutEffect{kBool}),
  key("zero_optimization.allgather_partitions", WithoutEffect{kBool}),
  key("zero_optimization.allgather_bucket_size", WithoutEffect{kWhole}).or_auto(),
  key("zero_optimization.overlap_comm", WithoutEffect{kBool | kNull}).or_auto(),
  key("zero_optimization.compute_grad_norm", WithoutEffect{kBool}),
  key("zero_optimization.load_from_fp32_weights", WithoutEffect{kBool}),
  key("zero_optimization.elastic_checkpoint", WithoutEffect{kBool}),
  key("zero_optimization.round_robin_gradients", WithoutEffect{kBool}),
  key("zero_optimization.ignore_unused_parameters", WithoutEffect{kBool}),
  key("zero_optimization.legacy_stage1", WithoutEffect{kBool}),
  key("zero_optimization.parameter_alignment", WithoutEffect{kBool | kWhole}),
  key("zero_optimization.zero_hpz_partition_size", WithoutEffect{kWhole}),
  key("zero_optimization.zero_quantized_weights", OnlyFalse{"parameters are gathered as they are"}),
  key("zero_optimization.zero_quantized_nontrainable_weights", OnlyFalse{"parameters are gathered as they are"}),
  key("zero_optimization.zero_quantized_gradients", OnlyFalse{"gradients are reduced as they are"}),
  key("zero_optimization.zeropp_loco_param", WithoutEffect{kObject | kNull}),
  key("zero_optimization.mics_shard_size", WithoutEffect{kWhole}),
  key("zero_optimization.mics_hierarchical_params_gather", WithoutEffect{kBool}),
  key("zero_optimization.memory_efficient_linear", WithoutEffect{kBool}),
  key("zero_optimization.pipeline_loading_checkpoint", WithoutEffect{kBool}),
  key("zero_optimization.override_module_apply", WithoutEffect{kBool}),
  key("zero_optimization.log_trace_cache_warnings", WithoutEffect{kBool}),
  key("zero_optimization.enable_sanity_checks", WithoutEffect{kBool}),
  key("zero_optimization.save_muon_momentum_buffer_in_memory", WithoutEffect{kBool}),
  key("zero_optimization.leaf_module", WithoutEffect{kObject}),
  key("zero_optimization.zenflow", WithoutEffect{kObject | kNull}),
  key("zero_optimization.cpu_offload", OnlyFalse{"write \"offload_optimizer\": {\"device\": \"cpu\"} instead"}).or_null(),
  key("zero_optimization.cpu_offload_params", OnlyFalse{"write \"offload_param\": {\"device\": \"cpu\"} instead"}).or_null(),
  key("zero_optimization.cpu_offload_param", OnlyFalse{"write \"offload_param\": {\"device\": \"cpu\"} instead"}).or_null(),
  key("zero_optimization.cpu_offload_use_pin_memory", WithoutEffect{kBool | kNull}),
  key("zero_allow_untested_optimizer", WithoutEffect{kBool}),
  key("zero_force_ds_cpu_optimizer", WithoutEffect{kBool}),

  // activation_checkpointing: strata.recompute decides
  key("activation_checkpointing.partition_activations", WithoutEffect{kBool}),
  key("activation_checkpointing.contiguous_memory_optimization", WithoutEffect{kBool}),
  key("activation_checkpointing.cpu_checkpointing", WithoutEffect{kBool}),
  key("activation_checkpointing.number_checkpoints", WithoutEffect{kWhole | kNull}),
  key("activation_checkpointing.synchronize_checkpoint_boundary", WithoutEffect{kBool}),
  key("activation_checkpointing.profile", WithoutEffect{kBool}),

  // aio
  key("aio.block_size", IntegerField{.field = at<&C::aio, &AioConfig::block_bytes>, .min = 4096, .max = 1 << 30, .multiple_of = 4096}).or_auto(),
  key("aio.queue_depth", IntegerField{.field = at<&C::aio, &AioConfig::queue_depth>, .min = 1, .max = 4096}).or_auto(),
  key("aio.intra_op_parallelism", IntegerField{.field = at<&C::aio, &AioConfig::threads>, .min = 1, .max = 1024}).or_auto(),
  key("aio.thread_count", IntegerField{.field = at<&C::aio, &AioConfig::threads>, .min = 1, .max = 1024}).or_auto().older_name_of("aio.intra_op_parallelism"),
  key("aio.num_threads", IntegerField{.field = at<&C::aio, &AioConfig::threads>, .min = 1, .max = 1024}).or_auto().older_name_of("aio.intra_op_parallelism"),
  key("aio.single_submit", WithoutEffect{kBool}),
  key("aio.overlap_events", WithoutEffect{kBool}),
  key("aio.use_gds", WithoutEffect{kBool}),

  // strata
  key("strata.budget.device", OptionalBytesField{at<&C::strata, &T::device_budget_bytes>}),
  key("strata.budget.host", OptionalBytesField{at<&C::strata, &T::host_budget_bytes>}),
  key("strata.budget.nvme", OptionalBytesField{at<&C::strata, &T::nvme_budget_bytes>}),
  key("strata.nvme", TextListField{at<&C::strata, &T::nvme_directories>}),
  key("strata.io", choice<&C::strata, &T::io>(kIoEngines)),
  key("strata.no_decay", TextListField{at<&C::strata, &T::no_decay>}),
  key("strata.recompute", BoolField{at<&C::strata, &T::recompute>}),
  key("strata.chunk_bytes", BytesField{at<&C::strata, &T::chunk_bytes>, 4096}),
  key("strata.window_elements", IntegerField{.field = at<&C::strata, &T::window_elements>, .min = 0, .bytes_per_element = window_element_bytes}),
  key("strata.threads", IntegerField{.field = at<&C::strata, &T::threads>, .min = 0, .max = 4096}),

  // communication and the rest of the top level
  key("managed_gradient_accumulation", WithoutEffect{kBool}),
  key("prescale_gradients", WithoutEffect{kBool}),
  key("gradient_predivide_factor", WithoutEffect{kNumber}),
  key("gradient_allreduce_op", WithoutEffect{kText}),
  key("sparse_gradients", WithoutEffect{kBool}),
  key("communication_data_type", WithoutEffect{kText | kNull}),
  key("seq_parallel_communication_data_type", WithoutEffect{kText | kNull}),
  key("sequence_parallel_size", WithoutEffect{kWhole}),
  key("disable_allgather", WithoutEffect{kBool}),
  key("use_data_before_expert_parallelism", WithoutEffect{kBool}),
  key("dump_state", WithoutEffect{kBool}),
  key("wall_clock_breakdown", WithoutEffect{kBool}),
  key("memory_breakdown", WithoutEffect{kBool}),
  key("disable_python_gc", WithoutEffect{kBool}),
  key("graph_harvesting", WithoutEffect{kBool}),
  key("vocabulary_size", WithoutEffect{kWhole | kNull}),
  key("dataloader_drop_last", WithoutEffect{kBool}),
  key("log_level", WithoutEffect{kText | kNull}),
  key("checkpoint.tag_validation", WithoutEffect{kText}),
  key("checkpoint.load_universal", WithoutEffect{kBool}),
  key("checkpoint.use_node_local_storage", WithoutEffect{kBool}),
  key("checkpoint.parallel_write.pipeline_stage", WithoutEffect{kBool}),
  key("checkpoint.writer", WithoutEffect{kObject | kNull}),
  key("data_types.grad_accum_dtype", WithoutEffect{kText | kNull}),
  key("data_types.param_dtype", WithoutEffect{kText | kNull}),
  key("data_types.buffer_dtype", WithoutEffect{kText | kNull}),
  key("data_types.keep_in_fp32_modules", WithoutEffect{kText | kList | kNull}),

  // logs and profiles
  key("tensorboard.enabled", WithoutEffect{kBool}),
  key("tensorboard.output_path", WithoutEffect{kText}),
  key("tensorboard.job_name", WithoutEffect{kText}),
  key("wandb.enabled", WithoutEffect{kBool}),
  key("wandb.group", WithoutEffect{kText | kNull}),
  key("wandb.team", WithoutEffect{kText | kNull}),
  key("wandb.project", WithoutEffect{kText}),
  key("csv_monitor.enabled", WithoutEffect{kBool}),
  key("csv_monitor.output_path", WithoutEffect{kText}),
  key("csv_monitor.job_name", WithoutEffect{kText}),
  key("comet.enabled", WithoutEffect{kBool}),
  key("comet.samples_log_interval", WithoutEffect{kWhole}),
  key("comet.project", WithoutEffect{kText | kNull}),
  key("comet.workspace", WithoutEffect{kText | kNull}),
  key("comet.api_key", WithoutEffect{kText | kNull}),
  key("comet.experiment_name", WithoutEffect{kText | kNull}),
  key("comet.experiment_key", WithoutEffect{kText | kNull}),
  key("comet.online", WithoutEffect{kBool | kNull}),
  key("comet.mode", WithoutEffect{kText | kNull}),
  key("comms_logger.enabled", WithoutEffect{kBool}),
  key("comms_logger.verbose", WithoutEffect{kBool}),
  key("comms_logger.prof_all", WithoutEffect{kBool}),
  key("comms_logger.prof_ops", WithoutEffect{kList}),
  key("comms_logger.debug", WithoutEffect{kBool}),
  key("flops_profiler.enabled", WithoutEffect{kBool}),
  key("flops_profiler.recompute_fwd_factor", WithoutEffect{kNumber}),
  key("flops_profiler.profile_step", WithoutEffect{kWhole}),
  key("flops_profiler.module_depth", WithoutEffect{kWhole}),
  key("flops_profiler.top_modules", WithoutEffect{kWhole}),
  key("flops_profiler.detailed", WithoutEffect{kBool}),
  key("flops_profiler.output_file", WithoutEffect{kText | kNull}),
  key("eigenvalue", WithoutEffect{kObject}),
  key("autotuning", WithoutEffect{kObject}),
  key("timers", WithoutEffect{kObject}),
  key("compile", WithoutEffect{kObject}),
  key("nebula", WithoutEffect{kObject}),
  key("datastates_ckpt", WithoutEffect{kObject}),
  key("hybrid_engine", WithoutEffect{kObject}),
  key("pipeline", WithoutEffect{kObject}),

  // what would train something else
  key("elasticity", Refused{"elastic batch sizes are not there; name the batch sizes"}),
  key("progressive_layer_drop", Refused{"layers cannot be dropped; remove the section"}),
  key("curriculum_learning", Refused{"curriculum learning is not there; remove the section"}),
  key("data_efficiency", Refused{"curriculum learning and token dropping are not there; remove the section"}),
  key("compression_training", Refused{"compression is not there; remove the section"}),
  key("weight_quantization", Refused{"quantization is not there; remove the section"}),
  key("sparse_attention", Refused{"attention belongs to the model; remove the section"}),
  key("tensor_parallel", Refused{"tensor parallelism is not there; remove the section"}),
  key("expert_parallel", Refused{"expert parallelism is not there; remove the section"}),
};
// clang-format on

}  // namespace

std::span<const ConfigKey> config_keys() { return kKeys; }

const ConfigKey* find_config_key(std::string_view path) {
  const auto found =
      std::find_if(std::begin(kKeys), std::end(kKeys),
                   [path](const ConfigKey& candidate) { return candidate.path == path; });
  return found == std::end(kKeys) ? nullptr : &*found;
}

}  // namespace strata::formats
