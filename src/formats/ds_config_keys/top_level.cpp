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
constexpr ConfigKey kKeys[] = {
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
};

}  // namespace

std::span<const ConfigKey> top_level_keys() { return kKeys; }

}  // namespace strata::formats
