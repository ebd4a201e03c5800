#include "formats/ds_config_keys/rules.h"
#include "formats/ds_config_keys/sections.h"

namespace strata::formats {
namespace {

using C = DsConfig;
using S = SchedulerConfig;

constexpr std::array<std::string_view, 11> kSchedulerTypes = {"",
                                                              "WarmupLR",
                                                              "WarmupDecayLR",
                                                              "WarmupCosineLR",
                                                              "OneCycle",
                                                              "LRRangeTest",
                                                              "linear",
                                                              "cosine",
                                                              "constant",
                                                              "constant_with_warmup",
                                                              "cosine_with_min_lr"};
constexpr std::array<std::string_view, 2> kWarmupTypes = {"log", "linear"};
constexpr std::int64_t kStepsMax = std::int64_t{1} << 53;  // exact in a double

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
  return any_schedule(config) && !one_cycle(config) && !range_test(config) &&
         config.scheduler.type != SchedulerType::kConstant;
}
bool deepspeeds_schedule(const DsConfig& config) {
  return any_schedule(config) && !config.scheduler.is_trainers();
}
bool deepspeeds_warmup(const DsConfig& config) {
  return warmup_schedule(config) && deepspeeds_schedule(config);
}
bool rate_schedule(const DsConfig& config) {
  return deepspeeds_warmup(config) && !cosine_schedule(config);
}
bool trainers_cosine(const DsConfig& config) { return config.scheduler.is_trainers_cosine(); }
bool minimum_cosine(const DsConfig& config) {
  return config.scheduler.type == SchedulerType::kCosineWithMinLr;
}

constexpr ConfigKey kSchedulerKeys[] = {
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
    key("scheduler.params.num_warmup_steps", whole(at<&C::scheduler, &S::warmup_num_steps>, 0))
        .or_auto([](C& c) { c.scheduler.warmup_num_steps = 0; })
        .older_name_of("scheduler.params.warmup_num_steps"),
    key("scheduler.params.warmup_type", choice<&C::scheduler, &S::warmup_type>(kWarmupTypes))
        .or_auto()
        .only_for(deepspeeds_warmup),
    key("scheduler.params.total_num_steps", size_or_auto(at<&C::scheduler, &S::total_num_steps>))
        .or_auto()
        .only_for(ending_schedule),
    key("scheduler.params.num_training_steps", size_or_auto(at<&C::scheduler, &S::total_num_steps>))
        .or_auto()
        .older_name_of("scheduler.params.total_num_steps"),
    key("scheduler.params.warmup_min_ratio", ratio(at<&C::scheduler, &S::warmup_min_ratio>))
        .or_auto()
        .only_for(cosine_schedule),
    key("scheduler.params.cos_min_ratio", ratio(at<&C::scheduler, &S::cos_min_ratio>))
        .or_auto()
        .only_for(cosine_schedule),
    key("scheduler.params.num_cycles", not_negative(at<&C::scheduler, &S::num_cycles>))
        .only_for(trainers_cosine),
    key("scheduler.params.min_lr", OptionalNumberField{at<&C::scheduler, &S::min_lr>, 0, kInfinity})
        .or_auto()
        .or_null()
        .only_for(minimum_cosine),
    key("scheduler.params.min_lr_rate",
        OptionalNumberField{at<&C::scheduler, &S::min_lr_rate>, 0, kInfinity})
        .or_auto()
        .or_null()
        .only_for(minimum_cosine),
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
        .only_for(deepspeeds_schedule),
};

}  // namespace

std::span<const ConfigKey> scheduler_keys() { return kSchedulerKeys; }

}  // namespace strata::formats
