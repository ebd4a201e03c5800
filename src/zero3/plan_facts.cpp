#include "zero3/plan_facts.h"

#include <algorithm>
#include <string>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/optim_cpu/convert.h"
#include "strata/tiering/shard_store.h"
#include "zero3/shard_map.h"

namespace strata::zero3 {

using tiering::Tier;

namespace {

constexpr std::uint64_t kSlotBytesWished = 4_MiB;

std::uint64_t vector_bytes(std::uint64_t count, std::uint64_t element_bytes) {
  return round_up(count * element_bytes, kPage);
}
/// The formats of all trainable vectors: the run's, and fp32 where a unit keeps parameters in it.
std::vector<StateFormat> trainable_formats(const PlanInput& input) {
  std::vector<StateFormat> formats = {input.format};
  const bool keeps_fp32 =
      std::any_of(input.units.begin(), input.units.end(),
                  [](const UnitLayout& unit) { return unit.fp32_trainable_count > 0; });
  if (keeps_fp32) formats.push_back(kept_in_fp32(input.format));
  return formats;
}
}  // namespace

PlanFacts::PlanFacts(const PlanInput& input) : input_(input), formats_(trainable_formats(input)) {
  if (input.world_size < 1) {
    throw ConfigError("a plan for " + std::to_string(input.world_size) +
                      " ranks; a world has at least one");
  }
  for (const UnitLayout& unit : input.units) {
    if (region_bytes(unit) > largest_region_) {
      largest_region_ = region_bytes(unit);
      largest_unit_ = &unit;
    }
    all_regions_ += region_bytes(unit);
    largest_trainable_ = std::max(
        {largest_trainable_, shard(unit.trainable_count), shard(unit.fp32_trainable_count)});
    largest_vector_ = std::max({largest_vector_, largest_trainable_, shard(unit.frozen_count),
                                shard(unit.fp32_frozen_count)});
  }
  // Pieces of gradients must not cut a block of their sums, and a bucket of 2-byte gradients,
  // half a slot, must still lie on the chunk grid.
  const std::uint64_t grid = std::max<std::uint64_t>(
      2 * input.chunk_bytes, optim_cpu::kGradientBlockElements * sizeof(float));
  slot_bytes_ = std::min(round_up(kSlotBytesWished, grid),
                         round_up(std::max<std::uint64_t>(largest_vector_ * 4, 1), grid));
}

std::uint64_t PlanFacts::region_bytes(const UnitLayout& unit) const {
  const std::uint64_t width = weight_bytes(input_.format.precision);
  const std::uint64_t fp32 = weight_bytes(Precision::kFp32);
  return vector_bytes(gathered(unit.trainable_count), width) +
         vector_bytes(gathered(unit.frozen_count), width) +
         vector_bytes(gathered(unit.fp32_trainable_count), fp32) +
         vector_bytes(gathered(unit.fp32_frozen_count), fp32);
}

std::uint64_t PlanFacts::resting_bytes(Tier tier, std::uint64_t count,
                                       std::uint64_t element_bytes) const {
  if (tier != Tier::kNvme) return vector_bytes(count, element_bytes);
  return tiering::ShardStore::disk_bytes(count * element_bytes, input_.chunk_bytes,
                                         input_.nvme_directories);
}

std::uint64_t PlanFacts::home_bytes(Tier tier, StateKind kind, const UnitLayout& unit) const {
  const std::uint64_t width = state_bytes(input_.format, kind);
  const std::uint64_t fp32 = state_bytes(kept_in_fp32(input_.format), kind);
  std::uint64_t total = resting_bytes(tier, shard(unit.trainable_count), width) +
                        resting_bytes(tier, shard(unit.fp32_trainable_count), fp32);
  if (kind == StateKind::kWeight) {
    total += resting_bytes(tier, shard(unit.frozen_count), width) +
             resting_bytes(tier, shard(unit.fp32_frozen_count), fp32);
  }
  return total;
}

std::uint64_t PlanFacts::home_bytes(Tier tier, StateKind kind) const {
  std::uint64_t total = 0;
  for (const UnitLayout& unit : input_.units) total += home_bytes(tier, kind, unit);
  return total;
}

std::uint64_t PlanFacts::unit_elements(const UnitLayout& unit) const {
  return unit.trainable_count + unit.frozen_count + unit.fp32_trainable_count +
         unit.fp32_frozen_count;
}

std::uint64_t PlanFacts::shard_elements(const UnitLayout& unit) const {
  return shard(unit.trainable_count) + shard(unit.frozen_count) + shard(unit.fp32_trainable_count) +
         shard(unit.fp32_frozen_count);
}

std::uint64_t PlanFacts::optimizer_bytes(Tier tier) const {
  return home_bytes(tier, StateKind::kMaster) + home_bytes(tier, StateKind::kM) +
         home_bytes(tier, StateKind::kV);
}

std::uint64_t PlanFacts::gradient_bytes(Tier tier, const UnitLayout& unit) const {
  return resting_bytes(tier, shard(unit.trainable_count),
                       state_bytes(input_.format, StateKind::kGradient, input_.accumulate_fp32)) +
         resting_bytes(tier, shard(unit.fp32_trainable_count),
                       state_bytes(kept_in_fp32(input_.format), StateKind::kGradient));
}

std::uint64_t PlanFacts::gradient_bytes() const {
  std::uint64_t total = 0;
  for (const UnitLayout& unit : input_.units) total += gradient_bytes(Tier::kHost, unit);
  return total;
}

std::uint64_t PlanFacts::homes_in(Tier tier) const {
  std::uint64_t bytes = tier == Tier::kHost ? input_.activations.host_bytes() : 0;
  if (input_.parameter_tier == tier) bytes += home_bytes(tier, StateKind::kWeight);
  if (input_.optimizer_tier == tier) bytes += optimizer_bytes(tier);
  return bytes;
}

bool PlanFacts::weights_on_nvme() const { return input_.parameter_tier == Tier::kNvme; }

bool PlanFacts::weights_elsewhere() const { return input_.is_elsewhere(input_.parameter_tier); }

bool PlanFacts::states_elsewhere() const {
  if (!trainable()) return false;
  return weights_elsewhere() ||
         (input_.is_elsewhere(input_.optimizer_tier) && optimizer_bytes(input_.optimizer_tier) > 0);
}

std::uint64_t PlanFacts::widest_gradient() const {
  std::uint64_t widest = input_.accumulate_fp32 ? weight_bytes(Precision::kFp32) : 0;
  for (const StateFormat& format : formats_) {
    widest = std::max(widest, weight_bytes(format.precision));
  }
  return widest;
}

bool PlanFacts::gradients_go_straight_home() const {
  return input_.device_memory_is_host && input_.world_size == 1;
}

std::uint64_t PlanFacts::bucket_bytes() const {
  if (!trainable() || gradients_go_straight_home()) return 0;
  return slot_bytes_ / sizeof(float) * widest_gradient() * ranks();
}

std::size_t PlanFacts::gradient_slots_wished() const {
  const std::uint64_t width = gradients_go_straight_home() ? widest_gradient() : sizeof(float);
  return ceil_div(largest_trainable_ * width, slot_bytes_);
}

std::size_t PlanFacts::gradient_pieces_max() const {
  const std::uint64_t elements = slot_bytes_ / sizeof(float);
  std::uint64_t most = 0;
  for (const UnitLayout& unit : input_.units) {
    most = std::max(most, ceil_div(shard(unit.trainable_count), elements) +
                              ceil_div(shard(unit.fp32_trainable_count), elements));
  }
  return most;
}

std::size_t PlanFacts::buckets_in(const Plan& plan) const {
  const std::uint64_t one = bucket_bytes();
  return one > 0 ? plan.bucket_bytes / one : 0;
}

std::uint64_t PlanFacts::exchange_bytes() const {
  return input_.world_size > 1 && input_.device_memory_is_host ? bucket_bytes() : 0;
}

std::uint64_t PlanFacts::exchange_staging_bytes() const {
  return input_.world_size > 1 && !input_.device_memory_is_host ? 2 * ranks() * slot_bytes_ : 0;
}

std::uint64_t PlanFacts::window_elements(std::uint64_t multiple) const {
  std::uint64_t grid = 1;  // all are powers of two: the largest is a multiple of all
  for (const StateFormat& format : formats_) {
    grid = std::max(grid, input_.chunk_bytes / smallest_state_bytes(format));
  }
  const std::uint64_t whole = round_up(std::max<std::uint64_t>(largest_trainable_, 1), grid);
  std::uint64_t elements = std::min(grid * multiple, whole);
  if (input_.window_elements_max > 0) {
    elements = std::min(elements, std::max(input_.window_elements_max / grid * grid, grid));
  }
  return elements;
}

std::size_t PlanFacts::fetch_slots_wished() const {
  const std::uint64_t shards = input_.states_are_whole() ? 1 : ranks();
  const std::uint64_t elements = ceil_div(input_.prefetch_elements, shards);
  const std::uint64_t bytes = elements * weight_bytes(input_.format.precision);
  return std::max<std::size_t>(2, ceil_div(bytes, slot_bytes_));
}

std::uint64_t PlanFacts::ranks() const { return static_cast<std::uint64_t>(input_.world_size); }

std::uint64_t PlanFacts::shard(std::uint64_t count) const {
  const ShardMap map(count, input_.world_size);
  return input_.states_are_whole() ? map.padded_count() : map.shard_count();
}

std::uint64_t PlanFacts::gathered(std::uint64_t count) const {
  return ShardMap(count, input_.world_size).padded_count();
}

}  // namespace strata::zero3
