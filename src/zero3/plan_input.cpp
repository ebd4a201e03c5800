#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "strata/base/error.h"
#include "strata/formats/ds_config.h"
#include "strata/tiering/budget.h"
#include "strata/zero3/plan.h"

namespace strata::zero3 {

using tiering::Budget;
using tiering::Tier;

namespace {

Tier tier_of(formats::OffloadDevice device) {
  switch (device) {
    case formats::OffloadDevice::kNone: return Tier::kDevice;
    case formats::OffloadDevice::kCpu: return Tier::kHost;
    case formats::OffloadDevice::kNvme: return Tier::kNvme;
  }
  return Tier::kDevice;
}

}  // namespace

PlanInput plan_input_from(const formats::DsConfig& config, std::vector<UnitLayout> units,
                          const PlanPlace& place) {
  PlanInput input;
  input.units = std::move(units);
  input.world_size = place.world_size;
  input.device_memory_is_host = place.device_memory_is_host;
  input.format = config.state_format();
  input.parameter_tier = tier_of(config.zero.offload_param.device);
  input.optimizer_tier = tier_of(config.zero.offload_optimizer.device);
  input.accumulate_fp32 = config.gradient_accumulation_steps > 1;
  input.budgets = {.device = config.strata.device_budget_bytes.value_or(Budget::kUnlimited),
                   .host = config.strata.host_budget_bytes.value_or(Budget::kUnlimited),
                   .nvme = config.strata.nvme_budget_bytes.value_or(Budget::kUnlimited)};
  input.nvme_directories = config.nvme_directories().size();
  input.nvme_available = input.nvme_directories > 0;
  input.chunk_bytes = config.strata.chunk_bytes;
  input.prefetch_elements = static_cast<std::uint64_t>(config.zero.prefetch_elements);
  input.live_elements_max = static_cast<std::uint64_t>(config.zero.live_elements_max);
  const std::int64_t window = config.strata.window_elements;
  input.window_elements_max =
      static_cast<std::uint64_t>(window > 0 ? std::min(window, config.zero.sub_group_elements)
                                            : config.zero.sub_group_elements);
  const auto or_unbounded = [](const std::optional<std::int64_t>& given) {
    return given ? static_cast<std::uint64_t>(*given) : UINT64_MAX;
  };
  input.overlap_step = config.strata.overlap_step;
  // A bound that nobody named is not there to be filled.
  input.host_cache = config.strata.host_cache && config.strata.host_budget_bytes.has_value();
  input.cached_weights_max = or_unbounded(config.zero.offload_param.max_in_cpu);
  const bool wants_nvme =
      input.parameter_tier == Tier::kNvme || input.optimizer_tier == Tier::kNvme;
  if (wants_nvme && !input.nvme_available) {
    throw ConfigError(config.name +
                      ": something is to be offloaded to nvme, but no directory is named; set "
                      "zero_optimization.offload_*.nvme_path or \"strata\": {\"nvme\": [...]}");
  }
  return input;
}

}  // namespace strata::zero3
