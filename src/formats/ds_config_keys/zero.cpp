#include "formats/ds_config_keys/rules.h"
#include "formats/ds_config_keys/sections.h"

namespace strata::formats {
namespace {

using C = DsConfig;
using Z = ZeroConfig;

constexpr std::array<std::string_view, 3> kDevices = {"none", "cpu", "nvme"};

constexpr ConfigKey kZeroKeys[] = {
    key("zero_optimization.stage", whole(at<&C::zero, &Z::stage>, 0, 3)).or_auto().or_bool(),
    key("zero_optimization.offload_param.device",
        choice<&C::zero, &Z::offload_param, &OffloadConfig::device>(kDevices))
        .or_auto(),
    key("zero_optimization.offload_param.nvme_path",
        PathField{at<&C::zero, &Z::offload_param, &OffloadConfig::nvme_path>})
        .or_auto()
        .or_null(),
    unused("zero_optimization.offload_param.pin_memory", kBoolean),
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
    unused("zero_optimization.offload_optimizer.pin_memory", kBoolean),
    key("zero_optimization.offload_optimizer.buffer_count",
        OptionalIntegerField{at<&C::zero, &Z::offload_optimizer, &OffloadConfig::buffer_count>, 0}),
    unused("zero_optimization.offload_optimizer.buffer_size", kWhole).or_auto(),
    unused("zero_optimization.offload_optimizer.pipeline_read", kBoolean),
    unused("zero_optimization.offload_optimizer.pipeline_write", kBoolean),
    unused("zero_optimization.offload_optimizer.pipeline", kBoolean),
    unused("zero_optimization.offload_optimizer.fast_init", kBoolean),
    unused("zero_optimization.offload_optimizer.ratio", kNumber),
    unused("zero_optimization.offload_optimizer.super_offload", kBoolean),
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
    unused("zero_optimization.stage3_gather_16bit_weights_on_model_save", kBoolean).or_auto(),
    unused("zero_optimization.stage3_gather_fp16_weights_on_model_save", kBoolean).or_auto(),
    unused("zero_optimization.stage3_module_granularity_threshold", kWhole).or_auto(),
    unused("zero_optimization.stage3_use_all_reduce_for_fetch_params", kBoolean),
    unused("zero_optimization.stage3_allgather_sequential", kBoolean),
    unused("zero_optimization.contiguous_gradients", kBoolean),
    unused("zero_optimization.reduce_scatter", kBoolean),
    unused("zero_optimization.reduce_bucket_size", kWhole).or_auto(),
    unused("zero_optimization.use_multi_rank_bucket_allreduce", kBoolean),
    unused("zero_optimization.allgather_partitions", kBoolean),
    unused("zero_optimization.allgather_bucket_size", kWhole).or_auto(),
    unused("zero_optimization.overlap_comm", kBoolean | kNull).or_auto(),
    unused("zero_optimization.compute_grad_norm", kBoolean),
    unused("zero_optimization.load_from_fp32_weights", kBoolean),
    unused("zero_optimization.elastic_checkpoint", kBoolean),
    unused("zero_optimization.round_robin_gradients", kBoolean),
    unused("zero_optimization.ignore_unused_parameters", kBoolean),
    unused("zero_optimization.legacy_stage1", kBoolean),
    unused("zero_optimization.parameter_alignment", kBoolean | kWhole),
    unused("zero_optimization.zero_hpz_partition_size", kWhole),
    only_false("zero_optimization.zero_quantized_weights", "parameters are gathered as they are"),
    only_false("zero_optimization.zero_quantized_nontrainable_weights",
               "parameters are gathered as they are"),
    only_false("zero_optimization.zero_quantized_gradients", "gradients are reduced as they are"),
    refused("zero_optimization.zeropp_loco_param", "gradients are reduced as they are; remove it"),
    unused("zero_optimization.mics_shard_size", kWhole),
    unused("zero_optimization.mics_hierarchical_params_gather", kBoolean),
    unused("zero_optimization.memory_efficient_linear", kBoolean),
    unused("zero_optimization.pipeline_loading_checkpoint", kBoolean),
    unused("zero_optimization.override_module_apply", kBoolean),
    unused("zero_optimization.log_trace_cache_warnings", kBoolean),
    unused("zero_optimization.enable_sanity_checks", kBoolean),
    unused("zero_optimization.save_muon_momentum_buffer_in_memory", kBoolean),
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
    unused("zero_optimization.cpu_offload_use_pin_memory", kBoolean | kNull),
    unused("zero_allow_untested_optimizer", kBoolean),
    unused("zero_force_ds_cpu_optimizer", kBoolean),
};

}  // namespace

std::span<const ConfigKey> zero_keys() { return kZeroKeys; }

}  // namespace strata::formats
