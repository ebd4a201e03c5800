#include "formats/ds_config_keys/rules.h"
#include "formats/ds_config_keys/sections.h"

namespace strata::formats {
namespace {

using C = DsConfig;

constexpr ConfigKey kBatchKeys[] = {
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
};

}  // namespace

std::span<const ConfigKey> batch_keys() { return kBatchKeys; }

}  // namespace strata::formats
