#include "formats/ds_config_keys/rules.h"
#include "formats/ds_config_keys/sections.h"

namespace strata::formats {
namespace {

using C = DsConfig;
using O = OptimizerConfig;

/// The words of OptimizerType, and then the Trainer's names of AdamW. The reader sees to the
/// moments of those of 8 bits.
constexpr std::array<std::string_view, 10> kOptimizerTypes = {"Adam",
                                                              "AdamW",
                                                              "SGD",
                                                              "Adagrad",
                                                              "Lion",
                                                              "adamw_torch",
                                                              "adamw_torch_fused",
                                                              "adamw_8bit",
                                                              "adamw_bnb_8bit",
                                                              "paged_adamw_8bit"};
constexpr std::size_t kTrainersFirst = 5;

constexpr ChoiceField optimizer_type() {
  ChoiceField field = choice<&C::optimizer, &O::type>(kOptimizerTypes);
  field.set = [](DsConfig& config, std::size_t index) {
    config.optimizer.type =
        index < kTrainersFirst ? static_cast<OptimizerType>(index) : OptimizerType::kAdamW;
  };
  return field;
}

bool is_adam(const DsConfig& config) { return config.optimizer.is_adam(); }
bool is_sgd(const DsConfig& config) { return config.optimizer.type == OptimizerType::kSgd; }
bool is_adagrad(const DsConfig& config) { return config.optimizer.type == OptimizerType::kAdagrad; }
bool has_betas(const DsConfig& config) {
  return is_adam(config) || config.optimizer.type == OptimizerType::kLion;
}
bool has_eps(const DsConfig& config) { return is_adam(config) || is_adagrad(config); }

constexpr ConfigKey kOptimizerKeys[] = {
    key("optimizer.type", optimizer_type()),
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
    unused("optimizer.params.torch_adam", kBoolean).only_for(is_adam),
    only_true("optimizer.params.fp32_optimizer_states",
              "write \"strata\": {\"states\": {\"moments\": \"bf16\"}} at the top of the file for "
              "moments of 16 bits")
        .only_for(is_adam),
    only_false("optimizer.params.amsgrad", "AMSGrad is not implemented"),
    only_false("optimizer.params.maximize", "the loss is minimized; change its sign"),
    unused("optimizer.params.foreach", kBoolean | kNull),
    unused("optimizer.params.fused", kBoolean | kNull),
    unused("optimizer.params.capturable", kBoolean),
    unused("optimizer.params.differentiable", kBoolean),
    unused("optimizer.params.set_grad_none", kBoolean),
    refused("optimizer.params.max_grad_norm",
            "write gradient_clipping at the top of the file instead"),
    unused("optimizer.legacy_fusion", kBoolean),
};

}  // namespace

std::span<const ConfigKey> optimizer_keys() { return kOptimizerKeys; }

}  // namespace strata::formats
