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

/// Where weights rest. Below stage 3 they are not offloaded; what ranks share of them goes with
/// the rest of the masters.
Tier weights_home(const formats::DsConfig& config, const PlanInput& input) {
  if (input.stage == 3) return tier_of(config.zero.offload_param.device);
  return input.states_are_whole() ? Tier::kDevice : input.optimizer_tier;
}

constexpr std::uint64_t kUnbounded = UINT64_MAX;

std::uint64_t product(std::uint64_t a, std::uint64_t b) {
  std::uint64_t result = 0;
  return __builtin_mul_overflow(a, b, &result) ? kUnbounded : result;
}

/// The bytes of DeepSpeed's buffers for weights. Ours are smaller and more.
std::uint64_t staging_of_weights(const formats::DsConfig& config) {
  constexpr std::int64_t kCount = 5, kElements = 100'000'000;  // where only one is named
  const formats::OffloadConfig& offload = config.zero.offload_param;
  if (!offload.buffer_count && !offload.buffer_size) return kUnbounded;
  const auto count = static_cast<std::uint64_t>(offload.buffer_count.value_or(kCount));
  const auto elements = static_cast<std::uint64_t>(offload.buffer_size.value_or(kElements));
  return product(product(count, elements), weight_bytes(config.precision()));
}

/// The parameters whose states DeepSpeed's buffers hold at a time: those of a sub-group take one
/// for the parameter, one for its gradient, and one for each moment.
std::uint64_t elements_of_windows(const formats::DsConfig& config) {
  const std::optional<std::int64_t>& count = config.zero.offload_optimizer.buffer_count;
  if (!count) return kUnbounded;
  const StateFormat format = config.state_format();
  const std::uint64_t buffers = 2 + (format.has_m ? 1 : 0) + (format.has_v ? 1 : 0);
  return product(static_cast<std::uint64_t>(*count) / buffers,
                 static_cast<std::uint64_t>(config.zero.sub_group_elements));
}

}  // namespace

PlanInput plan_input_from(const formats::DsConfig& config, std::vector<UnitLayout> units,
                          const PlanPlace& place) {
  PlanInput input;
  input.units = std::move(units);
  input.world_size = place.world_size;
  input.device_memory_is_host = place.device_memory_is_host;
  input.format = config.state_format();
  input.stage = static_cast<int>(config.zero.stage);
  input.optimizer_tier = tier_of(config.zero.offload_optimizer.device);
  input.parameter_tier = weights_home(config, input);
  input.accumulate_fp32 = config.gradient_accumulation_steps > 1;
  input.budgets = {.device = config.strata.device_budget_bytes.value_or(Budget::kUnlimited),
                   .host = config.strata.host_budget_bytes.value_or(Budget::kUnlimited),
                   .nvme = config.strata.nvme_budget_bytes.value_or(Budget::kUnlimited)};
  if (!config.strata.host_budget_bytes) input.host_memory = place.host_memory;
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
    return given ? static_cast<std::uint64_t>(*given) : kUnbounded;
  };
  input.fetch_staging_max = staging_of_weights(config);
  input.windows_elements_max = elements_of_windows(config);
  input.reuse_distance_max = or_unbounded(config.zero.reuse_distance_max);
  input.persistence_threshold =
      static_cast<std::uint64_t>(config.zero.persistence_threshold.value_or(0));
  input.persistence_model_max = or_unbounded(config.zero.persistence_model_max);
  input.overlap_step = config.strata.overlap_step;
  // A bound that nobody named is not there to be filled.
  input.host_cache = config.strata.host_cache && config.strata.host_budget_bytes.has_value();
  input.cached_weights_max = or_unbounded(config.zero.offload_param.max_in_cpu);
  const formats::ActivationBytes activations = config.activation_bytes();
  input.activations =
      tiering::activation_room(activations.host, activations.nvme, input.chunk_bytes);
  const bool wants_nvme = input.parameter_tier == Tier::kNvme ||
                          input.optimizer_tier == Tier::kNvme || activations.nvme > 0;
  if (wants_nvme && !input.nvme_available) {
    throw ConfigError(config.name +
                      ": something is to be offloaded to nvme, but no directory is named; set "
                      "zero_optimization.offload_*.nvme_path or \"strata\": {\"nvme\": [...]}");
  }
  return input;
}

}  // namespace strata::zero3
