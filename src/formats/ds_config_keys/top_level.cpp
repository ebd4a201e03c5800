#include "formats/ds_config_keys/rules.h"
#include "formats/ds_config_keys/sections.h"

namespace strata::formats {
namespace {

/// keep_in_fp32_modules: "auto" takes lists that transformers' models have and LibTorch's do not.
bool names_no_module(const JsonValue& value) {
  if (value.is(JsonType::kArray)) return value.elements().empty();
  return value.is(JsonType::kString) && value.as_string() == "auto";
}

// Communication, checkpoints, and the rest of the top level.
constexpr ConfigKey kTopLevelKeys[] = {
    unused("allgather_size", kWhole),
    unused("managed_gradient_accumulation", kBoolean),  // refused with accumulation, by the reader
    unused("prescale_gradients", kBoolean),
    unused("gradient_predivide_factor", kNumber),
    unused("gradient_allreduce_op", kText),
    unused("sparse_gradients", kBoolean),
    unused("communication_data_type", kText | kNull),
    unused("seq_parallel_communication_data_type", kText | kNull),
    only(1, "sequence_parallel_size", "there is one rank"),
    unused("disable_allgather", kBoolean),
    unused("use_data_before_expert_parallelism", kBoolean),
    unused("dump_state", kBoolean),
    unused("wall_clock_breakdown", kBoolean),
    unused("memory_breakdown", kBoolean),
    unused("disable_python_gc", kBoolean),
    unused("graph_harvesting", kBoolean),
    unused("vocabulary_size", kWhole | kNull),
    unused("dataloader_drop_last", kBoolean),
    unused("log_level", kText | kNull),
    unused("checkpoint.tag_validation", kText),
    unused("checkpoint.load_universal", kBoolean),
    unused("checkpoint.use_node_local_storage", kBoolean),
    unused("checkpoint.parallel_write.pipeline_stage", kBoolean),
    unused("checkpoint.writer", kObject | kNull),
    unused("data_types.grad_accum_dtype", kText | kNull),  // these three are judged by the reader
    unused("data_types.param_dtype", kText | kNull),
    unused("data_types.buffer_dtype", kText | kNull),
    refused("data_types.keep_in_fp32_modules",
            "strata.keep_fp32 names what stays in fp32, by patterns of parameters and buffers; "
            "use that, and remove this or leave it \"auto\"",
            names_no_module),
};

}  // namespace

std::span<const ConfigKey> top_level_keys() { return kTopLevelKeys; }

}  // namespace strata::formats
