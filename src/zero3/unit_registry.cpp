#include "zero3/unit_registry.h"

#include <cstdint>
#include <utility>

#include "strata/base/error.h"
#include "strata/zero3/frozen_parameters.h"
#include "zero3/host_cache.h"
#include "zero3/host_division.h"

namespace strata::zero3 {

using tiering::Tier;

namespace {

// The random sequences of vectors kept in fp32 follow those of all units.
constexpr std::uint64_t kSequencesOfFp32 = std::uint64_t{1} << 32;

UnitRules rules_of(const formats::DsConfig& config, ShardOptions& options) {
  const StateFormat format = config.state_format();
  return {
      .format = format,
      .recomputes = options.recompute == Recompute::kConfig
                        ? config.strata.recompute.value_or(true)
                        : options.recompute == Recompute::kAlways,
      .casts_inputs = format.precision != Precision::kFp32 && config.fp16.auto_cast.value_or(true),
      .generators = std::move(options.generators)};
}

}  // namespace

UnitRegistry::UnitRegistry(const Parts& parts, PlanInput input)
    : parts_(parts), without_units_(std::move(input)), plan_input_(without_units_) {}

UnitRegistry::~UnitRegistry() {
  for (const auto& unit : units_) unit->abandon_parameters();
}

StatePassage UnitRegistry::passage() const {
  return {parts_.tiers.places(), plan_input_.chunk_bytes};
}

std::string UnitRegistry::unit_name(const torch::nn::Module& module, std::string wished) const {
  const auto has_taken_name = [&](const std::string& unit) {
    for (const auto& item : module.named_parameters()) {
      if (parameter_names_.contains(unit.empty() ? item.key() : unit + "." + item.key())) {
        return true;
      }
    }
    return false;
  };
  if (!has_taken_name(wished)) return wished;
  if (wished.empty()) return "unit." + std::to_string(units_.size());
  throw UsageError("unit '" + wished +
                   "' has a parameter of the same full name as a unit before it; give each unit a "
                   "name of its own in ShardOptions::name");
}

void UnitRegistry::refuse_owned(const torch::nn::Module& module, const std::string& unit) const {
  for (const auto& parameter : module.parameters()) {
    const auto owner = owner_of_.find(parameter.unsafeGetTensorImpl());
    if (owner == owner_of_.end()) continue;
    throw UsageError("unit '" + unit + "' shares a parameter with unit '" + owner->second->name() +
                     "'; a tied weight belongs to one unit, whose run() is called for each of its "
                     "uses");
  }
}

UnitHandle UnitRegistry::add(torch::nn::Module& module, ShardOptions options,
                             const UnitDoors& doors) {
  refuse_owned(module, options.name);
  const std::string name = unit_name(module, std::move(options.name));
  UnitIntake intake = take_in(name, module, taken_, parts_.torch_device);
  TakenMemory memory = intake.memory;
  const NamePatterns patterns = {.fp32 = parts_.config.fp32_patterns(),
                                 .frozen = parts_.config.strata.freeze};
  auto unit =
      std::make_shared<Unit>(doors, static_cast<UnitId>(units_.size()), name, std::move(intake),
                             UnitPlace{.device = parts_.torch_device,
                                       .rank = parts_.ranks.rank(),
                                       .world_size = parts_.ranks.size(),
                                       .keeps_all = plan_input_.states_are_whole()},
                             rules_of(parts_.config, options), patterns);
  if (!options.initializer) check_initial_values(*unit);  // before anything is taken for it
  require_room_for(*unit);
  if (!placement_) {
    placement_.emplace(passage(), parts_.threads, parts_.tiers.budget(Tier::kHost), parts_.log);
  }
  set_homes(*unit);
  // What the plan will take in any case may be used before: peak memory stays the plan's.
  placement_->place(*unit, options.initializer,
                    smallest_beside_states(without_units_, unit->layout()));
  unit->adopt_parameters();
  taken_.add(std::move(memory));
  for (const ParameterLayout& parameter : unit->layout().parameters) {
    parameter_names_.insert(unit->layout().full_name(parameter));
  }
  for (const torch::Tensor& parameter : unit->parameters()) {
    owner_of_.emplace(parameter.unsafeGetTensorImpl(), unit.get());
  }
  plan_input_.units.push_back(unit->layout());
  units_.push_back(std::move(unit));
  return units_.back();
}

/// Looking at all units costs as much as there are of them, so it is done again only when a 64th of
/// the memory more is to be taken.
void UnitRegistry::require_room_for(const Unit& unit) {
  if (!plan_input_.host_memory) return;
  constexpr std::uint64_t kBytesMost = 16;  // of an element: weight, master, moments in fp32
  std::uint64_t bytes = parts_.tiers.budget(Tier::kHost).used();
  if (plan_input_.device_memory_is_host) bytes += parts_.tiers.budget(Tier::kDevice).used();
  for (const FlatVector& vector : unit.vectors()) bytes += vector.shard.count() * kBytesMost;
  if (bytes < looked_at_memory_) return;
  PlanInput with_unit = plan_input_;
  with_unit.units.push_back(unit.layout());
  require_host_memory(with_unit);
  looked_at_memory_ = bytes + plan_input_.host_memory->bytes() / 64;
}

void UnitRegistry::check_patterns() const {
  check_parameter_patterns(parts_.config, plan_input_.units);
}

void UnitRegistry::release_staging() { placement_.reset(); }

void UnitRegistry::set_homes(Unit& unit) {
  for (std::size_t i = 0; i < unit.vectors().size(); ++i) {
    FlatVector& vector = unit.vectors()[i];
    const auto home = [&](Tier tier, StateKind kind) {
      return parts_.tiers.take_home(tier, vector.shard.count() * state_bytes(vector.format, kind),
                                    unit.name() + " " + std::string(name_of(kind)));
    };
    optim_cpu::ShardStates& states = vector.states;
    states.name = unit.name();
    states.weight = home(plan_input_.parameter_tier, StateKind::kWeight);
    parts_.tiers.register_memory(states.weight.memory, "weights", /*by_disk=*/false);
    if (!vector.trains()) continue;
    states.count = vector.shard.count();
    states.first_element = vector.shard.begin;
    states.format = vector.format;
    states.sequence = units_.size() + (i == 0 ? 0 : kSequencesOfFp32);
    states.gradient_fp32 =
        plan_input_.accumulate_fp32 || vector.format.precision == Precision::kFp32;
    states.master = home(plan_input_.optimizer_tier, StateKind::kMaster);
    states.m = home(plan_input_.optimizer_tier, StateKind::kM);
    states.v = home(plan_input_.optimizer_tier, StateKind::kV);
  }
  for (TrainableParameter& parameter : unit.trainables()) {
    parameter.group =
        parts_.groups.group_of(unit.layout().full_name(*parameter.layout), parameter.layout->shape);
  }
}

void UnitRegistry::take_gradient_homes(const std::vector<Tier>& tiers) {
  for (std::size_t i = 0; i < units_.size(); ++i) {
    for (FlatVector& vector : units_[i]->vectors()) {
      if (!vector.trains()) continue;
      vector.states.gradient = parts_.tiers.take_home(
          tiers[i],
          vector.shard.count() *
              state_bytes(vector.format, StateKind::kGradient, vector.states.gradient_fp32),
          units_[i]->name() + " gradient");
    }
  }
}

void UnitRegistry::keep_in_host_memory(const std::vector<CachedStates>& cached) {
  for (std::size_t i = 0; i < units_.size(); ++i) {
    for (FlatVector& vector : units_[i]->vectors()) {
      optim_cpu::ShardStates& states = vector.states;
      for (const auto& [kind, home] : {std::pair{StateKind::kWeight, &states.weight},
                                       {StateKind::kMaster, &states.master},
                                       {StateKind::kM, &states.m},
                                       {StateKind::kV, &states.v}}) {
        if (!cached[i].has(kind) || !home->exists()) continue;
        zero3::keep_in_host_memory(
            *home, units_[i]->name() + " " + std::string(name_of(kind)) + " in host memory",
            parts_.tiers);
      }
      if (!cached[i].has(StateKind::kWeight)) continue;
      parts_.tiers.register_memory(states.weight.memory, "weights", /*by_disk=*/false);
    }
  }
}

std::size_t UnitRegistry::trained_vectors() const {
  std::size_t count = 0;
  for (const auto& unit : units_) {
    for (const FlatVector& vector : unit->vectors()) count += vector.trains() ? 1 : 0;
  }
  return count;
}

}  // namespace strata::zero3
