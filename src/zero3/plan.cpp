#include "strata/zero3/plan.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/tiering/budget.h"
#include "strata/tiering/shard_store.h"
#include "zero3/host_division.h"
#include "zero3/plan_facts.h"

namespace strata::zero3 {

using tiering::Budget;
using tiering::Tier;

namespace {

/// Room for units in use, at least.
std::uint64_t least_regions(const PlanFacts& facts, const PlanInput& input) {
  if (input.units_stay()) return 0;
  return input.weights_stay() ? facts.all_regions() : facts.largest_region();
}

std::uint64_t smallest_device(const PlanFacts& facts, const PlanInput& input) {
  return facts.homes_in(Tier::kDevice) + least_regions(facts, input) + facts.bucket_bytes() +
         facts.exchange_bytes();
}

/// Bytes of a tier with this budget, where `others` of the memory that both tiers share are taken.
std::uint64_t room_of(std::uint64_t budget, const PlanInput& input, std::uint64_t others) {
  if (!input.host_memory) return budget;
  const std::uint64_t shared = input.host_memory->bytes();
  return std::min(budget, shared - std::min(shared, others));
}

/// Bytes of host memory that the device tier has to have.
std::uint64_t device_share(const PlanFacts& facts, const PlanInput& input) {
  return input.device_memory_is_host ? smallest_device(facts, input) : 0;
}

// Units that have room on the device before gradients of one more piece do: one computes, one
// arrives, and one that has computed is still there when the next one's place is looked for.
constexpr std::uint64_t kUnitsBesideGradients = 2;

/// Pieces of gradients that have room on the device at a time. Where copies are done when they
/// return, or ranks exchange each piece, more than one are of no use.
std::size_t bucket_count(const PlanFacts& facts, const PlanInput& input) {
  if (input.device_memory_is_host || input.world_size > 1 || !facts.trainable()) return 1;
  const std::uint64_t units = input.units_stay() ? 0 : kUnitsBesideGradients;
  const std::uint64_t taken =
      facts.homes_in(Tier::kDevice) + std::min(units * facts.largest_region(), facts.all_regions());
  const std::uint64_t room = input.budgets.device - std::min(input.budgets.device, taken);
  return std::clamp<std::uint64_t>(room / facts.bucket_bytes(), 1,
                                   std::max<std::size_t>(1, facts.gradient_pieces_max()));
}

/// `host_bytes` are what the host tier takes.
std::uint64_t device_cache(const PlanFacts& facts, const PlanInput& input,
                           std::uint64_t host_bytes) {
  if (input.units_stay()) return 0;
  if (input.weights_stay()) return facts.all_regions();
  const std::uint64_t fixed = facts.homes_in(Tier::kDevice) +
                              bucket_count(facts, input) * facts.bucket_bytes() +
                              facts.exchange_bytes();
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
std::vector<bool> persistent_units(const PlanFacts& facts, const PlanInput& input,
                                   std::uint64_t device_cache_bytes) {
  std::vector<bool> persistent(input.units.size(), input.weights_stay());
  if (input.weights_stay()) return persistent;
  std::uint64_t room = device_cache_bytes - std::min(device_cache_bytes, facts.largest_region());
  std::uint64_t left = input.persistence_model_max;
  for (std::size_t i = 0; i < persistent.size(); ++i) {
    const UnitLayout& unit = input.units[i];
    const std::uint64_t elements = facts.unit_elements(unit);
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
  HostCache(const PlanFacts& facts, const PlanInput& input, std::uint64_t room)
      : facts_(facts), input_(input), room_(room), cached_(input.units.size()) {}

  /// Fills the room. A byte of a weight saves more transfers than one of the other states: it is
  /// read by forward, backward and the step, and written by the step, while those are read and
  /// written once. What never leaves the device is not read at all: frozen units, where
  /// `units_stay` there.
  void fill(bool units_stay) {
    if (input_.parameter_tier == Tier::kNvme) {
      for (std::size_t i = 0; i < cached_.size(); ++i) {
        const UnitLayout& unit = input_.units[i];
        const std::uint64_t elements = facts_.shard_elements(unit);
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

  const PlanFacts& facts_;
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

/// What could make the device budget do, where units take turns on the device.
std::string way_out(const PlanFacts& facts, const PlanInput& input) {
  if (input.weights_stay() || (input.units_stay() && input.world_size > 1)) {
    return "; in stage " + std::to_string(input.stage) +
           " every rank keeps all weights on its device: stage 3 shares them too";
  }
  if (input.units_stay() || facts.largest_unit() == nullptr) return {};
  return "; the largest unit, '" + facts.largest_unit()->name + "', takes " +
         enough_for(facts.largest_region()) +
         " of it: a layer in tiles takes less (strata::TiledLinear, TiledEmbedding)";
}

[[noreturn]] void refuse(Tier tier, std::uint64_t budget, std::uint64_t smallest,
                         const std::string& way_out = {}) {
  throw BudgetError("the " + std::string(name_of(tier)) + " budget of " + format_bytes(budget) +
                    " (" + std::to_string(budget) +
                    " bytes) is too small for this model and "
                    "configuration; the smallest that works is " +
                    enough_for(smallest) + " (" + std::to_string(smallest) + " bytes)" + way_out);
}

void require_host_memory(const PlanFacts& facts, const PlanInput& input) {
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

void itemize(Plan& plan, const PlanFacts& facts, const PlanInput& input, const Gradients& gradients,
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
  item("gradients from all ranks", Tier::kDevice, facts.exchange_bytes());
  item("exchange between ranks", Tier::kHost, staging.exchange_total);
}

/// Gives what the plan leaves of the host budget to states on nvme.
void fill_host(Plan& plan, const PlanFacts& facts, const PlanInput& input) {
  const bool has_room = input.host_cache && input.budgets.host != Budget::kUnlimited;
  HostCache cache(facts, input, has_room ? input.budgets.host - plan.total.host : 0);
  cache.fill(/*units_stay=*/plan.device_cache_bytes >= facts.all_regions() &&
             input.reuse_distance_max == PlanInput::kNoBound);
  plan.cached = cache.cached();
  add_item(plan, "weights kept in host memory", Tier::kHost, cache.weights());
  add_item(plan, "optimizer states kept in host memory", Tier::kHost, cache.optimizer_states());
}
}  // namespace

bool PlanInput::is_elsewhere(Tier tier) const noexcept {
  return tier == Tier::kNvme || (tier == Tier::kDevice && !device_memory_is_host);
}

bool PlanInput::units_stay() const noexcept {
  return parameter_tier == Tier::kDevice && states_are_whole();
}

bool PlanInput::weights_stay() const noexcept {
  return stage < 3 && world_size > 1 && !units_stay();
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
  const PlanFacts facts(input);
  if (const auto smallest = smallest_device(facts, input); smallest > input.budgets.device) {
    refuse(Tier::kDevice, input.budgets.device, smallest, way_out(facts, input));
  }
  require_host_memory(facts, input);
  const std::optional<HostDivision> division =
      divide_host(facts, input, room_of(input.budgets.host, input, device_share(facts, input)));
  if (!division) refuse(Tier::kHost, input.budgets.host, smallest_host(facts, input));

  Plan plan;
  plan.gradient_tier = division->gradients.tier;
  plan.formats = facts.formats();
  plan.gradients_on_nvme = division->gradients.nvme_bytes > 0;
  plan.slot_bytes = facts.slot_bytes();
  plan.fetch_slots = division->staging.fetch_slots;
  plan.gradient_slots = division->staging.gradient_slots;
  plan.windows = division->staging.windows;
  plan.overlaps_step = input.overlap_step && plan.windows > 0;
  plan.window_elements = division->staging.window_elements;
  plan.device_cache_bytes = device_cache(
      facts, input,
      facts.homes_in(Tier::kHost) + division->staging.bytes() + division->gradients.host_bytes);
  plan.persistent = persistent_units(facts, input, plan.device_cache_bytes);
  plan.bucket_bytes = bucket_count(facts, input) * facts.bucket_bytes();
  plan.exchange_bytes = facts.exchange_bytes() + facts.exchange_staging_bytes();
  itemize(plan, facts, input, division->gradients, division->staging);
  fill_host(plan, facts, input);
  plan.uses_nvme = plan.total.nvme > 0;

  if (plan.total.nvme > input.budgets.nvme) {
    refuse(Tier::kNvme, input.budgets.nvme, plan.total.nvme);
  }
  return plan;
}

void require_host_memory(const PlanInput& input) { require_host_memory(PlanFacts(input), input); }

TierBytes smallest_budgets(const PlanInput& input) {
  PlanInput least = input;
  least.host_cache = false;
  least.host_memory.reset();
  const PlanFacts facts(least);
  least.budgets = {.device = smallest_device(facts, input),
                   .host = smallest_host(facts, input),
                   .nvme = Budget::kUnlimited};
  return make_plan(least).total;
}

}  // namespace strata::zero3
