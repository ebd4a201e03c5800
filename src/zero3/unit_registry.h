#pragma once

#include <torch/torch.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "strata/base/log.h"
#include "strata/formats/ds_config.h"
#include "strata/optim_cpu/compute_threads.h"
#include "strata/tiering/tiers.h"
#include "strata/zero3/plan.h"
#include "strata/zero3/sharding.h"
#include "zero3/initial_placement.h"
#include "zero3/parameter_groups.h"
#include "zero3/ranks/ranks.h"
#include "zero3/state_stream.h"
#include "zero3/unit.h"
#include "zero3/unit_intake.h"

namespace strata::zero3 {

/// The units of an engine: makes them of modules, gives their states homes and writes their values
/// there. Thread: the engine's.
class UnitRegistry {
 public:
  /// The parts that it works with; all but the device outlive it.
  struct Parts {
    const formats::DsConfig& config;
    tiering::Tiers& tiers;
    c10::Device torch_device;  ///< holds parameters while they are used
    Ranks& ranks;
    optim_cpu::ComputeThreads& threads;
    ParameterGroups& groups;
    Logger& log;
  };
  /// `input` is that of a plan without units.
  UnitRegistry(const Parts& parts, PlanInput input);
  /// Leaves parameters without data.
  ~UnitRegistry();
  UnitRegistry(const UnitRegistry&) = delete;
  UnitRegistry& operator=(const UnitRegistry&) = delete;

  /// Makes `module` a unit that knows of these doors; before there is a plan. Throws what
  /// Engine::shard throws.
  UnitHandle add(torch::nn::Module& module, ShardOptions options, const UnitDoors& doors);
  /// Throws ConfigError for a pattern of the config that no parameter matches
  /// (frozen_parameters.h).
  void check_patterns() const;
  /// Gives back the memory that placing values took.
  void release_staging();

  /// The units in the order in which they were added.
  [[nodiscard]] const std::vector<std::shared_ptr<Unit>>& all() const noexcept { return units_; }
  /// The input of a plan; it grows with every unit.
  [[nodiscard]] const PlanInput& plan_input() const noexcept { return plan_input_; }
  [[nodiscard]] std::size_t trained_vectors() const;
  /// The way in which states that rest elsewhere are moved.
  [[nodiscard]] StatePassage passage() const;

  /// Gives the gradients of each unit a home in its tier.
  void take_gradient_homes(const std::vector<tiering::Tier>& tiers);
  /// Moves these states of each unit from nvme to host memory. Throws what keep_in_host_memory
  /// throws.
  void keep_in_host_memory(const std::vector<CachedStates>& cached);

 private:
  [[nodiscard]] std::string unit_name(const torch::nn::Module& module, std::string wished) const;
  void refuse_owned(const torch::nn::Module& module, const std::string& unit) const;
  void require_room_for(const Unit& unit);
  void set_homes(Unit& unit);

  Parts parts_;
  const PlanInput without_units_;
  PlanInput plan_input_;
  std::vector<std::shared_ptr<Unit>> units_;
  std::unordered_map<const c10::TensorImpl*, Unit*> owner_of_;  // every parameter's unit
  std::unordered_set<std::string> parameter_names_;             // full names
  TakenMemory taken_;
  std::uint64_t looked_at_memory_ = 0;  // bytes of host memory for which there is room
  std::optional<InitialPlacement> placement_;
};

}  // namespace strata::zero3
