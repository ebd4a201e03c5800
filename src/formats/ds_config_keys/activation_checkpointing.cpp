#include "formats/ds_config_keys/rules.h"
#include "formats/ds_config_keys/sections.h"

namespace strata::formats {
namespace {

using C = DsConfig;
using A = ActivationCheckpointingConfig;

// strata.recompute says whether, these where.
constexpr ConfigKey kActivationCheckpointingKeys[] = {
    unused("activation_checkpointing.partition_activations", kBoolean),
    unused("activation_checkpointing.contiguous_memory_optimization", kBoolean),
    key("activation_checkpointing.cpu_checkpointing",
        BoolField{at<&C::activation_checkpointing, &A::cpu_checkpointing>}),
    unused("activation_checkpointing.number_checkpoints", kWhole | kBoolean | kNull),
    unused("activation_checkpointing.synchronize_checkpoint_boundary", kBoolean),
    unused("activation_checkpointing.profile", kBoolean),
};

}  // namespace

std::span<const ConfigKey> activation_checkpointing_keys() { return kActivationCheckpointingKeys; }

}  // namespace strata::formats
