#include "formats/ds_config_keys/rules.h"
#include "formats/ds_config_keys/sections.h"

namespace strata::formats {
namespace {

using C = DsConfig;
using F = Fp16Config;

constexpr ConfigKey kPrecisionKeys[] = {
    key("bf16.enabled", BoolField{at<&C::bf16, &Bf16Config::enabled>}).or_auto(),
    unused("bf16.immediate_grad_update", kBoolean),
    key("bf16.check_grad_overflow",
        OptionalBoolField{at<&C::bf16, &Bf16Config::check_grad_overflow>}),
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
};

}  // namespace

std::span<const ConfigKey> precision_keys() { return kPrecisionKeys; }

}  // namespace strata::formats
