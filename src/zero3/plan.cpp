#include "strata/zero3/plan.h"

#include <algorithm>
#include <array>
#include <bit>
#include <optional>
#include <sstream>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/optim_cpu/convert.h"
#include "strata/optim_cpu/window_pipeline.h"
#include "strata/tiering/budget.h"
#include "strata/tiering/shard_store.h"
#include "zero3/shard_map.h"

namespace strata::zero3 {

using tiering::Budget;
using tiering::Tier;

namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kSlotBytesWished = 4_MiB;

/// Sizes of staging, from the least that works upwards.
struct StagingLevel {
  std::size_t fetch_slots;
  std::size_t windows;
  std::uint64_t window_multiple;  ///< multiple of the smallest window
};
constexpr std::array<StagingLevel, 6> kLevels = {
    {{2, 1, 1}, {4, 2, 1}, {8, 3, 1}, {12, 3, 2}, {16, 3, 4}, {32, 4, 4}}};
constexpr std::size_t kSlotsToReadStates = 2;  // one for weights, one for masters
constexpr std::size_t kComfortableLevel = 2;   // disk and arithmetic overlap from here on

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

/// Everything about the input that does not depend on a choice.
class Facts {
 public:
  explicit Facts(const PlanInput& input) : input_(input), formats_(trainable_formats(input)) {
    if (input.world_size < 1) {
      throw ConfigError("a plan for " + std::to_string(input.world_size) +
                        " ranks; a world has at least one");
    }
    for (const UnitLayout& unit : input.units) {
      largest_region_ = std::max(largest_region_, region_bytes(unit));
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

  /// A unit in use: the shards of all ranks.
  [[nodiscard]] std::uint64_t region_bytes(const UnitLayout& unit) const {
    const std::uint64_t width = weight_bytes(input_.format.precision);
    const std::uint64_t fp32 = weight_bytes(Precision::kFp32);
    return vector_bytes(gathered(unit.trainable_count), width) +
           vector_bytes(gathered(unit.frozen_count), width) +
           vector_bytes(gathered(unit.fp32_trainable_count), fp32) +
           vector_bytes(gathered(unit.fp32_frozen_count), fp32);
  }

  /// Bytes of a rank's shard, of `count` elements, that rests in `tier`.
  [[nodiscard]] std::uint64_t resting_bytes(Tier tier, std::uint64_t count,
                                            std::uint64_t element_bytes) const {
    if (!on_nvme(tier)) return vector_bytes(count, element_bytes);
    return tiering::ShardStore::disk_bytes(count * element_bytes, input_.chunk_bytes,
                                           input_.nvme_directories);
  }

  /// Bytes of one state of a unit that rests in `tier`.
  [[nodiscard]] std::uint64_t home_bytes(Tier tier, StateKind kind, const UnitLayout& unit) const {
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

  /// Bytes of one state of all units that rests in `tier`.
  [[nodiscard]] std::uint64_t home_bytes(Tier tier, StateKind kind) const {
    std::uint64_t total = 0;
    for (const UnitLayout& unit : input_.units) total += home_bytes(tier, kind, unit);
    return total;
  }

  /// Elements of the weights of a unit that a rank keeps.
  [[nodiscard]] std::uint64_t weight_elements(const UnitLayout& unit) const {
    return shard(unit.trainable_count) + shard(unit.frozen_count) +
           shard(unit.fp32_trainable_count) + shard(unit.fp32_frozen_count);
  }

  [[nodiscard]] std::uint64_t optimizer_bytes(Tier tier) const {
    return home_bytes(tier, StateKind::kMaster) + home_bytes(tier, StateKind::kM) +
           home_bytes(tier, StateKind::kV);
  }

  [[nodiscard]] std::uint64_t gradient_bytes(Tier tier, const UnitLayout& unit) const {
    return resting_bytes(tier, shard(unit.trainable_count),
                         state_bytes(input_.format, StateKind::kGradient, input_.accumulate_fp32)) +
           resting_bytes(tier, shard(unit.fp32_trainable_count),
                         state_bytes(kept_in_fp32(input_.format), StateKind::kGradient));
  }

  /// Gradient bytes of all units, in host memory.
  [[nodiscard]] std::uint64_t gradient_bytes() const {
    std::uint64_t total = 0;
    for (const UnitLayout& unit : input_.units) total += gradient_bytes(Tier::kHost, unit);
    return total;
  }

  [[nodiscard]] bool on_nvme(Tier tier) const { return tier == Tier::kNvme; }
  [[nodiscard]] bool weights_on_nvme() const { return on_nvme(input_.parameter_tier); }
  [[nodiscard]] bool weights_elsewhere() const {
    return input_.is_elsewhere(input_.parameter_tier);
  }
  /// Whether the step finds weights or optimizer states elsewhere than in host memory.
  [[nodiscard]] bool states_elsewhere() const {
    if (largest_trainable_ == 0) return false;
    return weights_elsewhere() || (input_.is_elsewhere(input_.optimizer_tier) &&
                                   optimizer_bytes(input_.optimizer_tier) > 0);
  }

  [[nodiscard]] std::uint64_t slot_bytes() const { return slot_bytes_; }
  [[nodiscard]] std::uint64_t largest_region() const { return largest_region_; }
  [[nodiscard]] std::uint64_t all_regions() const { return all_regions_; }
  [[nodiscard]] bool trainable() const { return largest_trainable_ > 0; }
  [[nodiscard]] const std::vector<StateFormat>& formats() const { return formats_; }

  /// Packed gradients pass the device in pieces whose fp32 form fills a slot, one for each rank.
  /// Sums of micro-batches are in fp32.
  [[nodiscard]] std::uint64_t bucket_bytes() const {
    if (!trainable()) return 0;
    std::uint64_t widest = input_.accumulate_fp32 ? weight_bytes(Precision::kFp32) : 0;
    for (const StateFormat& format : formats_) {
      widest = std::max(widest, weight_bytes(format.precision));
    }
    return slot_bytes_ / sizeof(float) * widest * ranks();
  }
  /// Bytes that come from the ranks for a bucket that went to them.
  [[nodiscard]] std::uint64_t exchange_bytes() const {
    return input_.world_size > 1 ? bucket_bytes() : 0;
  }

  [[nodiscard]] std::uint64_t window_elements(std::uint64_t multiple) const {
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

  [[nodiscard]] std::size_t fetch_slots_max() const {
    return std::max<std::uint64_t>(kLevels.front().fetch_slots,
                                   input_.fetch_staging_max / slot_bytes_);
  }
  [[nodiscard]] std::size_t windows_max(std::uint64_t elements) const {
    return std::max<std::uint64_t>(kLevels.front().windows, input_.windows_elements_max / elements);
  }

  [[nodiscard]] std::size_t fetch_slots_wished() const {
    const std::uint64_t elements = ceil_div(input_.prefetch_elements, ranks());
    const std::uint64_t bytes = elements * weight_bytes(input_.format.precision);
    return std::max<std::size_t>(2, ceil_div(bytes, slot_bytes_));
  }

 private:
  [[nodiscard]] std::uint64_t ranks() const {
    return static_cast<std::uint64_t>(input_.world_size);
  }
  /// Elements of a rank's shard of a vector.
  [[nodiscard]] std::uint64_t shard(std::uint64_t count) const {
    return ShardMap(count, input_.world_size).shard_count();
  }
  /// Elements of the shards of all ranks.
  [[nodiscard]] std::uint64_t gathered(std::uint64_t count) const {
    return ShardMap(count, input_.world_size).padded_count();
  }

  const PlanInput& input_;
  std::vector<StateFormat> formats_;
  std::uint64_t largest_region_ = 0, all_regions_ = 0;
  std::uint64_t largest_trainable_ = 0, largest_vector_ = 0;
  std::uint64_t slot_bytes_ = 0;
};

/// The staging of one level, as a plan's fields.
struct Staging {
  std::size_t fetch_slots = 0, gradient_slots = 0, windows = 0;
  std::uint64_t window_elements = 0;
  std::uint64_t slots_total = 0, windows_total = 0;  // bytes
  [[nodiscard]] std::uint64_t bytes() const { return slots_total + windows_total; }
};

Staging staging_of(const Facts& facts, std::size_t level, bool gradients_on_nvme) {
  Staging staging;
  if (facts.weights_on_nvme()) {
    staging.fetch_slots =
        std::min({kLevels[level].fetch_slots, facts.fetch_slots_wished(), facts.fetch_slots_max()});
  } else if (facts.weights_elsewhere()) {
    staging.fetch_slots = kSlotsToReadStates;
  }
  if (facts.trainable()) staging.gradient_slots = gradients_on_nvme ? 4 : 1;
  staging.slots_total = (staging.fetch_slots + staging.gradient_slots) * facts.slot_bytes();
  if (facts.states_elsewhere() || gradients_on_nvme) {
    staging.window_elements = facts.window_elements(kLevels[level].window_multiple);
    staging.windows = std::min(kLevels[level].windows, facts.windows_max(staging.window_elements));
    staging.windows_total =
        optim_cpu::WindowPipeline::arena_bytes({.formats = facts.formats(),
                                                .window_elements = staging.window_elements,
                                                .windows = staging.windows,
                                                .gradients_on_nvme = gradients_on_nvme});
  }
  return staging;
}

struct Gradients {
  std::vector<Tier> tier;
  std::uint64_t host_bytes = 0, nvme_bytes = 0;
};

/// Puts units' gradients into `room` bytes of host memory, the first units first.
Gradients place_gradients(const Facts& facts, const PlanInput& input, std::uint64_t room) {
  Gradients gradients;
  for (const UnitLayout& unit : input.units) {
    const bool fits = gradients.host_bytes + facts.gradient_bytes(Tier::kHost, unit) <= room;
    const Tier tier = fits ? Tier::kHost : Tier::kNvme;
    gradients.tier.push_back(tier);
    (fits ? gradients.host_bytes : gradients.nvme_bytes) += facts.gradient_bytes(tier, unit);
  }
  return gradients;
}

/// Bytes of the states that rest in `tier`, and of host memory that activations have.
std::uint64_t homes_in(Tier tier, const Facts& facts, const PlanInput& input) {
  std::uint64_t bytes = tier == Tier::kHost ? input.activations.host_bytes() : 0;
  if (input.parameter_tier == tier) bytes += facts.home_bytes(tier, StateKind::kWeight);
  if (input.optimizer_tier == tier) bytes += facts.optimizer_bytes(tier);
  return bytes;
}

struct HostChoice {
  Staging staging;
  Gradients gradients;
};

/// The best staging level and gradient placement for a host budget; nullopt when nothing fits.
std::optional<HostChoice> choose_host(const Facts& facts, const PlanInput& input,
                                      std::uint64_t budget) {
  const std::uint64_t homes = homes_in(Tier::kHost, facts, input);
  const auto fits = [&](const Staging& staging, std::uint64_t gradient_bytes) {
    return homes + staging.bytes() + gradient_bytes <= budget;
  };
  const std::uint64_t all_gradients = facts.gradient_bytes();
  // Keeps every gradient in memory, with the deepest staging that fits, unless that is less than
  // comfortable and the disk could take gradients instead.
  for (std::size_t level = kLevels.size(); level-- > 0;) {
    if (level < kComfortableLevel && input.nvme_available) break;
    const Staging staging = staging_of(facts, level, false);
    if (fits(staging, all_gradients))
      return HostChoice{staging, place_gradients(facts, input, all_gradients)};
  }
  if (!input.nvme_available) return std::nullopt;
  for (std::size_t level = kComfortableLevel + 1; level-- > 0;) {
    const Staging staging = staging_of(facts, level, true);
    if (fits(staging, 0)) {
      return HostChoice{staging, place_gradients(facts, input, budget - homes - staging.bytes())};
    }
    // The least staging with all gradients in memory may still be smaller than with some on the
    // disk.
    const Staging without = staging_of(facts, level, false);
    if (fits(without, all_gradients)) {
      return HostChoice{without, place_gradients(facts, input, all_gradients)};
    }
  }
  return std::nullopt;
}

std::uint64_t smallest_host(const Facts& facts, const PlanInput& input) {
  const std::uint64_t homes = homes_in(Tier::kHost, facts, input);
  const std::uint64_t in_memory = staging_of(facts, 0, false).bytes() + facts.gradient_bytes();
  if (!input.nvme_available) return homes + in_memory;
  return homes + std::min(in_memory, staging_of(facts, 0, true).bytes());
}

std::uint64_t smallest_device(const Facts& facts, const PlanInput& input) {
  return homes_in(Tier::kDevice, facts, input) + (input.units_stay() ? 0 : facts.largest_region()) +
         facts.bucket_bytes() + facts.exchange_bytes();
}

/// Bytes of a tier with this budget, where `others` of the memory that both tiers share are taken.
std::uint64_t room_of(std::uint64_t budget, const PlanInput& input, std::uint64_t others) {
  if (!input.host_memory) return budget;
  const std::uint64_t shared = input.host_memory->bytes();
  return std::min(budget, shared - std::min(shared, others));
}

/// Bytes of host memory that the device tier has to have.
std::uint64_t device_share(const Facts& facts, const PlanInput& input) {
  return input.device_memory_is_host ? smallest_device(facts, input) : 0;
}

/// `host_bytes` are what the host tier takes.
std::uint64_t device_cache(const Facts& facts, const PlanInput& input, std::uint64_t host_bytes) {
  if (input.units_stay()) return 0;
  const std::uint64_t fixed =
      homes_in(Tier::kDevice, facts, input) + facts.bucket_bytes() + facts.exchange_bytes();
  const std::uint64_t live =
      round_up(input.live_elements_max * weight_bytes(input.format.precision), kPage);
  const std::uint64_t wished =
      std::max(facts.largest_region(), std::min(facts.all_regions(), live));
  const std::uint64_t budget = input.device_memory_is_host
                                   ? room_of(input.budgets.device, input, host_bytes)
                                   : input.budgets.device;
  const std::uint64_t room = budget - fixed;  // smallest_device was checked before
  return std::min(wished, room / kPage * kPage);
}

/// Chooses the units that stay on the device, beside which the largest one always has room.
std::vector<bool> persistent_units(const Facts& facts, const PlanInput& input,
                                   std::uint64_t device_cache_bytes) {
  std::vector<bool> persistent(input.units.size());
  std::uint64_t room = device_cache_bytes - std::min(device_cache_bytes, facts.largest_region());
  std::uint64_t left = input.persistence_model_max;
  for (std::size_t i = 0; i < persistent.size(); ++i) {
    const UnitLayout& unit = input.units[i];
    const std::uint64_t elements = unit.trainable_count + unit.frozen_count +
                                   unit.fp32_trainable_count + unit.fp32_frozen_count;
    const std::uint64_t bytes = facts.region_bytes(unit);
    if (elements >= input.persistence_threshold || elements > left || bytes > room) continue;
    persistent[i] = true;
    left -= elements;
    room -= bytes;
  }
  return persistent;
}

/// What is left of the host budget for states whose home is nvme.
class HostCache {
 public:
  HostCache(const Facts& facts, const PlanInput& input, std::uint64_t room)
      : facts_(facts), input_(input), room_(room), cached_(input.units.size()) {}

  /// Fills the room. A byte of a weight saves more transfers than one of the other states: it is
  /// read by forward, backward and the step, and written by the step, while those are read and
  /// written once. What never leaves the device is not read at all: frozen units, where
  /// `units_stay` there.
  void fill(bool units_stay) {
    if (input_.parameter_tier == Tier::kNvme) {
      for (std::size_t i = 0; i < cached_.size(); ++i) {
        const UnitLayout& unit = input_.units[i];
        const std::uint64_t elements = facts_.weight_elements(unit);
        if (elements > input_.cached_weights_max - weight_elements_) continue;
        if (units_stay && unit.trainable_count + unit.fp32_trainable_count == 0) continue;
        if (add(i, StateKind::kWeight, weights_)) weight_elements_ += elements;
      }
    }
    if (input_.optimizer_tier != Tier::kNvme) return;
    for (std::size_t i = 0; i < cached_.size(); ++i) {
      for (const StateKind kind : {StateKind::kMaster, StateKind::kM, StateKind::kV}) {
        add(i, kind, optimizer_states_);
      }
    }
  }

  [[nodiscard]] const std::vector<CachedStates>& cached() const { return cached_; }
  [[nodiscard]] std::uint64_t weights() const { return weights_; }
  [[nodiscard]] std::uint64_t optimizer_states() const { return optimizer_states_; }

 private:
  /// Keeps a state, if it has bytes and there is room for it.
  bool add(std::size_t unit, StateKind kind, std::uint64_t& kept) {
    const std::uint64_t bytes = facts_.home_bytes(Tier::kHost, kind, input_.units[unit]);
    if (bytes == 0 || bytes > room_) return false;
    room_ -= bytes;
    kept += bytes;
    cached_[unit].add(kind);
    return true;
  }

  const Facts& facts_;
  const PlanInput& input_;
  std::uint64_t room_;
  std::vector<CachedStates> cached_;
  std::uint64_t weights_ = 0, optimizer_states_ = 0;  // bytes
  std::uint64_t weight_elements_ = 0;
};

/// Bytes rounded up to hundredths of a unit: a tier that gets as much as is written here has
/// enough.
std::string enough_for(std::uint64_t bytes) {
  struct Unit {
    std::uint64_t bytes;
    const char* name;
  };
  for (const Unit unit : {Unit{1_GiB, " GiB"}, Unit{1_MiB, " MiB"}, Unit{1_KiB, " KiB"}}) {
    if (bytes < unit.bytes) continue;
    const std::uint64_t hundredths = ceil_div(bytes % unit.bytes * 100, unit.bytes);
    const std::string decimals = std::to_string(100 + hundredths % 100).substr(1);
    return std::to_string(bytes / unit.bytes + hundredths / 100) + "." + decimals + unit.name;
  }
  return std::to_string(bytes) + " B";
}

[[noreturn]] void refuse(Tier tier, std::uint64_t budget, std::uint64_t smallest) {
  throw BudgetError("the " + std::string(name_of(tier)) + " budget of " + format_bytes(budget) +
                    " (" + std::to_string(budget) +
                    " bytes) is too small for this model and "
                    "configuration; the smallest that works is " +
                    enough_for(smallest) + " (" + std::to_string(smallest) + " bytes)");
}

void require_host_memory(const Facts& facts, const PlanInput& input) {
  if (!input.host_memory) return;
  const std::uint64_t device = device_share(facts, input), host = smallest_host(facts, input);
  if (device + host <= input.host_memory->bytes()) return;
  const std::string with_device =
      device == 0 ? std::string()
                  : " (" + enough_for(device) + " of it for the device tier, which is host memory)";
  throw BudgetError("no host budget is named, so host memory is bounded by " +
                    describe(*input.host_memory) + "; this model and configuration take at least " +
                    enough_for(device + host) + with_device +
                    ", and the smallest host budget that works is " + enough_for(host) + " (" +
                    std::to_string(host) +
                    " bytes); keep more on disk (\"device\": \"nvme\" in "
                    "zero_optimization.offload_optimizer and offload_param), free memory, or name "
                    "a budget that takes the place of the bound (strata.budget, or --budget "
                    "host=SIZE)");
}

void add_item(Plan& plan, std::string what, Tier tier, std::uint64_t bytes) {
  if (bytes == 0) return;
  plan.items.push_back({std::move(what), tier, bytes});
  plan.total.of(tier) += bytes;
}

void itemize(Plan& plan, const Facts& facts, const PlanInput& input, const Gradients& gradients,
             const Staging& staging) {
  const auto item = [&](std::string what, Tier tier, std::uint64_t bytes) {
    add_item(plan, std::move(what), tier, bytes);
  };
  item("weights", input.parameter_tier, facts.home_bytes(input.parameter_tier, StateKind::kWeight));
  item("optimizer states", input.optimizer_tier, facts.optimizer_bytes(input.optimizer_tier));
  item("gradients", Tier::kHost, gradients.host_bytes);
  item("gradients without room in host memory", Tier::kNvme, gradients.nvme_bytes);
  item("activations", Tier::kHost, input.activations.host_bytes());
  item("activations without room in host memory", Tier::kNvme,
       input.activations.places == 0
           ? 0
           : tiering::ShardStore::disk_bytes(input.activations.nvme_bytes(), input.chunk_bytes,
                                             input.nvme_directories));
  item("staging of weights", Tier::kHost, staging.fetch_slots * facts.slot_bytes());
  item("staging of gradients", Tier::kHost, staging.gradient_slots * facts.slot_bytes());
  item("optimizer windows", Tier::kHost, staging.windows_total);
  item("unsharded units", Tier::kDevice, plan.device_cache_bytes);
  item("gradient bucket", Tier::kDevice, plan.bucket_bytes);
  item("gradients from all ranks", Tier::kDevice, plan.exchange_bytes);
}

/// Gives what the plan leaves of the host budget to states on nvme.
void fill_host(Plan& plan, const Facts& facts, const PlanInput& input) {
  const bool has_room = input.host_cache && input.budgets.host != Budget::kUnlimited;
  HostCache cache(facts, input, has_room ? input.budgets.host - plan.total.host : 0);
  cache.fill(/*units_stay=*/plan.device_cache_bytes >= facts.all_regions() &&
             input.reuse_distance_max == PlanInput{}.reuse_distance_max);
  plan.cached = cache.cached();
  add_item(plan, "weights kept in host memory", Tier::kHost, cache.weights());
  add_item(plan, "optimizer states kept in host memory", Tier::kHost, cache.optimizer_states());
}

/// Text such as "5 bytes (weight 2, master 1, m 1, v 1)".
std::string parameter_at_rest(const StateFormat& format) {
  std::uint64_t total = 0;
  std::string parts;
  for (const StateKind kind :
       {StateKind::kWeight, StateKind::kMaster, StateKind::kM, StateKind::kV}) {
    const std::uint64_t bytes = state_bytes(format, kind);
    if (bytes == 0) continue;
    total += bytes;
    parts.append(parts.empty() ? "" : ", ").append(name_of(kind)).append(" ");
    parts.append(std::to_string(bytes));
  }
  return std::to_string(total) + " bytes (" + parts + ")";
}

}  // namespace

bool PlanInput::is_elsewhere(Tier tier) const noexcept {
  return tier == Tier::kNvme || (tier == Tier::kDevice && !device_memory_is_host);
}

bool PlanInput::units_stay() const noexcept {
  return parameter_tier == Tier::kDevice && world_size == 1;
}

std::uint64_t TierBytes::of(Tier tier) const {
  return tier == Tier::kDevice ? device : tier == Tier::kHost ? host : nvme;
}

std::uint64_t& TierBytes::of(Tier tier) {
  return tier == Tier::kDevice ? device : tier == Tier::kHost ? host : nvme;
}

Plan make_plan(const PlanInput& input) {
  if (input.chunk_bytes < kPage || !std::has_single_bit(input.chunk_bytes)) {
    throw ConfigError("strata.chunk_bytes is " + std::to_string(input.chunk_bytes) +
                      "; it must be a power of two, at least 4096");
  }
  const Facts facts(input);
  if (const auto smallest = smallest_device(facts, input); smallest > input.budgets.device) {
    refuse(Tier::kDevice, input.budgets.device, smallest);
  }
  require_host_memory(facts, input);
  const std::optional<HostChoice> choice =
      choose_host(facts, input, room_of(input.budgets.host, input, device_share(facts, input)));
  if (!choice) refuse(Tier::kHost, input.budgets.host, smallest_host(facts, input));

  Plan plan;
  plan.gradient_tier = choice->gradients.tier;
  plan.formats = facts.formats();
  plan.gradients_on_nvme = choice->gradients.nvme_bytes > 0;
  plan.slot_bytes = facts.slot_bytes();
  plan.fetch_slots = choice->staging.fetch_slots;
  plan.gradient_slots = choice->staging.gradient_slots;
  plan.windows = choice->staging.windows;
  plan.overlaps_step = input.overlap_step && plan.windows > 0;
  plan.window_elements = choice->staging.window_elements;
  plan.device_cache_bytes = device_cache(
      facts, input,
      homes_in(Tier::kHost, facts, input) + choice->staging.bytes() + choice->gradients.host_bytes);
  plan.persistent = persistent_units(facts, input, plan.device_cache_bytes);
  plan.bucket_bytes = facts.bucket_bytes();
  plan.exchange_bytes = facts.exchange_bytes();
  itemize(plan, facts, input, choice->gradients, choice->staging);
  fill_host(plan, facts, input);
  plan.uses_nvme = plan.total.nvme > 0;

  if (plan.total.nvme > input.budgets.nvme) {
    refuse(Tier::kNvme, input.budgets.nvme, plan.total.nvme);
  }
  return plan;
}

void require_host_memory(const PlanInput& input) { require_host_memory(Facts(input), input); }

TierBytes smallest_budgets(const PlanInput& input) {
  PlanInput least = input;
  least.host_cache = false;
  least.host_memory.reset();
  const Facts facts(least);
  least.budgets = {.device = smallest_device(facts, input),
                   .host = smallest_host(facts, input),
                   .nvme = Budget::kUnlimited};
  return make_plan(least).total;
}

std::string describe(const Plan& plan, const PlanInput& input) {
  std::ostringstream out;
  if (input.world_size > 1) {
    out << "  each of " << input.world_size << " ranks, with a shard of every state:\n";
  }
  const char* of = "a trainable parameter at rest: ";
  for (const StateFormat& format : plan.formats) {
    out << "  " << std::exchange(of, "one that is kept in fp32: ") << parameter_at_rest(format)
        << "\n";
  }
  for (const PlanItem& item : plan.items) {
    out << "  " << name_of(item.tier) << std::string(8 - name_of(item.tier).size(), ' ')
        << format_bytes(item.bytes) << "  " << item.what << "\n";
  }
  const auto is_bounded = [&](Tier tier) {
    return input.host_memory &&
           (tier == Tier::kHost || (tier == Tier::kDevice && input.device_memory_is_host));
  };
  for (const Tier tier : {Tier::kDevice, Tier::kHost, Tier::kNvme}) {
    const std::uint64_t budget = input.budgets.of(tier);
    out << "  " << name_of(tier) << std::string(8 - name_of(tier).size(), ' ')
        << format_bytes(plan.total.of(tier)) << "  in all, of "
        << (budget != Budget::kUnlimited ? "a budget of " + format_bytes(budget)
            : is_bounded(tier)
                ? "no budget; host memory is bounded by " + format_bytes(input.host_memory->bytes())
                : "an unlimited budget")
        << "\n";
  }
  return out.str();
}

}  // namespace strata::zero3
