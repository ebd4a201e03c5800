#include <malloc.h>

#include <utility>
#include <vector>

#include "strata/base/error.h"
#include "strata/base/machine_memory.h"
#include "strata/base/units.h"
#include "zero3/engine_impl.h"
#include "zero3/inner_graph.h"
#include "zero3/parameter_values.h"
#include "zero3/ranks/one_rank.h"

/// \file
/// How an engine comes to be: config, units and their homes, plan, memory.

namespace strata {

using tiering::Budget;
using tiering::Tier;
using zero3::Unit;

namespace {

// Operations in flight are bounded by slots and windows, times the directories they are striped
// over.
constexpr std::uint32_t kOperationsMax = 1024;
// Random sequences of what units keep in fp32 follow those of all units.
constexpr std::uint64_t kSequencesOfFp32 = std::uint64_t{1} << 32;

aio::IoQueueOptions io_options(const formats::DsConfig& config) {
  aio::IoQueueOptions options;
  options.backend = config.strata.io;
  options.block_bytes = static_cast<std::uint32_t>(config.aio.block_bytes);
  options.depth = static_cast<std::uint32_t>(config.aio.queue_depth);
  options.threads = static_cast<std::uint32_t>(config.aio.threads);
  options.operations_max = kOperationsMax;
  return options;
}

tiering::Tiers::Options tiers_options(const formats::DsConfig& config, tiering::Device* device) {
  const std::vector<std::string> names = config.nvme_directories();
  return {.device_bytes = config.strata.device_budget_bytes.value_or(Budget::kUnlimited),
          .host_bytes = config.strata.host_budget_bytes.value_or(Budget::kUnlimited),
          .nvme_bytes = config.strata.nvme_budget_bytes.value_or(Budget::kUnlimited),
          .directories = {names.begin(), names.end()},
          .chunk_bytes = config.strata.chunk_bytes,
          .io = io_options(config),
          .device = device};
}

zero3::PlanInput plan_input_for(const formats::DsConfig& config, const tiering::Device* device,
                                int world_size) {
  zero3::PlanInput input = zero3::plan_input_from(config);
  input.world_size = world_size;
  input.device_memory_is_host = device == nullptr || device->properties().memory_is_host;
  return input;
}

/// What modules held before they were sharded was freed in pieces that the allocator keeps: some 30
/// MiB for each block of a large model.
void return_freed_memory() {
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
}

}  // namespace

Engine::Impl::Impl(formats::DsConfig config, const EnginePlace& place, Logger* log)
    : own_log_(log == nullptr ? std::make_unique<Logger>() : nullptr),
      log_(log == nullptr ? *own_log_ : *log),
      own_ranks_(place.ranks == nullptr ? std::make_unique<zero3::OneRank>() : nullptr),
      ranks_(place.ranks == nullptr ? *own_ranks_ : *place.ranks),
      config_((config.resolve_batch(ranks_.size()), std::move(config))),
      format_(config_.state_format()),
      threads_(static_cast<int>(config_.strata.threads),
               optim_cpu::InstructionSet(config_.strata.simd)),
      torch_device_(place.torch_device),
      plan_input_(plan_input_for(config_, place.device, ranks_.size())),
      tiers_(tiers_options(config_, place.device), counters_, log_),
      schedule_(config_.scheduler, config_.optimizer.lr),
      scaler_(config_.fp16.enabled ? zero3::LossScaler(config_.fp16) : zero3::LossScaler()),
      anchor_(torch::zeros({}, torch::requires_grad())),
      groups_(config_) {
  if (ranks_.size() > 1 && !plan_input_.device_memory_is_host) {
    throw UsageError(
        "an engine of several ranks on " + tiers_.device().properties().name +
        ": so far ranks exchange host memory alone; train on the host, or as one rank");
  }
  zero3::mark_as_anchor(anchor_);
  for (const std::string& note : config_.notes) log_.warning(config_.name + ": " + note);
}

zero3::StatePassage Engine::Impl::state_passage() {
  return {tiers_.places(), plan_input_.chunk_bytes};
}

Engine::Impl::~Impl() {
  for (const auto& unit : units_) unit->abandon_parameters();
}

void Engine::Impl::add_parameter_group(ParameterGroup group) { groups_.add(std::move(group)); }

std::string Engine::Impl::unit_name(const torch::nn::Module& module, std::string wished) const {
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

zero3::UnitHandle Engine::Impl::make_unit(torch::nn::Module& module, ShardOptions options) {
  if (plan_) {
    throw UsageError(
        "a module was given to shard() after the first forward; shard all modules, "
        "then train");
  }
  for (const auto& parameter : module.parameters()) {
    const auto owner = owner_of_.find(parameter.unsafeGetTensorImpl());
    if (owner == owner_of_.end()) continue;
    throw UsageError("unit '" + options.name + "' shares a parameter with unit '" +
                     owner->second->name() +
                     "'; a tied weight belongs to one unit, whose run() is called for each of its "
                     "uses");
  }
  const std::string name = unit_name(module, std::move(options.name));
  zero3::UnitIntake intake = zero3::take_in(name, module, taken_, torch_device_);
  zero3::TakenMemory memory = intake.memory;
  const std::vector<std::string> fp32_patterns = config_.fp32_patterns();
  auto unit = std::make_shared<Unit>(
      *this, static_cast<zero3::UnitId>(units_.size()), name, std::move(intake),
      zero3::UnitPlace{torch_device_, ranks_.rank(), ranks_.size()}, format_, fp32_patterns,
      options.recompute, std::move(options.generators));
  if (!options.initializer) zero3::check_initial_values(*unit);  // before anything is taken for it
  if (!placement_) {
    const bool are_elsewhere = plan_input_.is_elsewhere(plan_input_.parameter_tier) ||
                               plan_input_.is_elsewhere(plan_input_.optimizer_tier);
    placement_.emplace(format_, !fp32_patterns.empty(), are_elsewhere, state_passage(),
                       tiers_.budget(Tier::kHost), log_);
  }
  set_homes(*unit);
  placement_->place(*unit, options.initializer);
  unit->adopt_parameters();
  taken_.add(std::move(memory));
  for (const zero3::ParameterLayout& parameter : unit->layout().parameters) {
    parameter_names_.insert(unit->layout().full_name(parameter));
  }
  for (const torch::Tensor& parameter : unit->parameters()) {
    owner_of_.emplace(parameter.unsafeGetTensorImpl(), unit.get());
  }
  plan_input_.units.push_back(unit->layout());
  units_.push_back(std::move(unit));
  return units_.back();
}

void Engine::Impl::set_homes(Unit& unit) {
  for (std::size_t i = 0; i < unit.vectors().size(); ++i) {
    zero3::FlatVector& vector = unit.vectors()[i];
    const auto home = [&](Tier tier, StateKind kind) {
      return tiers_.take_home(tier, vector.shard.count() * state_bytes(vector.format, kind),
                              unit.name() + " " + std::string(name_of(kind)));
    };
    vector.weight = home(plan_input_.parameter_tier, StateKind::kWeight);
    tiers_.register_memory(vector.weight.memory, "weights",
                           /*by_disk=*/false);  // they are uploaded
    if (!vector.trains()) continue;
    optim_cpu::ShardStates& states = vector.states;
    states.count = vector.shard.count();
    states.first_element = vector.shard.begin;
    states.format = vector.format;
    states.sequence = units_.size() + (i == 0 ? 0 : kSequencesOfFp32);
    states.gradient_fp32 =
        plan_input_.accumulate_fp32 || vector.format.precision == Precision::kFp32;
    states.weight = vector.weight;
    states.master = home(plan_input_.optimizer_tier, StateKind::kMaster);
    states.m = home(plan_input_.optimizer_tier, StateKind::kM);
    states.v = home(plan_input_.optimizer_tier, StateKind::kV);
  }
  for (zero3::TrainableParameter& parameter : unit.trainables()) {
    parameter.group =
        groups_.group_of(unit.layout().full_name(*parameter.layout), parameter.layout->shape);
  }
}

void Engine::Impl::set_gradient_homes(Unit& unit, Tier tier) {
  for (zero3::FlatVector& vector : unit.vectors()) {
    if (!vector.trains()) continue;
    vector.states.gradient =
        tiers_.take_home(tier,
                         vector.shard.count() * state_bytes(vector.format, StateKind::kGradient,
                                                            vector.states.gradient_fp32),
                         unit.name() + " gradient");
  }
}

void Engine::Impl::prepare() {
  if (prepared_) return;
  if (units_.empty()) throw UsageError("the engine has no units: give modules to shard() first");
  if (plan_) {
    throw UsageError(
        "the engine could not take its memory or disk space before, and has a part of it; make a "
        "new engine");
  }
  placement_.reset();  // its staging makes room for the plan's
  return_freed_memory();
  zero3::Plan made = zero3::make_plan(plan_input_);
  require_machine_memory(made.total.host +
                         (plan_input_.device_memory_is_host ? made.total.device : 0));
  plan_ = std::move(made);
  take_memory();
  prepared_ = true;
  if (!gradients_) {
    log_.warning("no parameter is trainable: backward and step will change nothing");
  }
}

std::size_t Engine::Impl::trained_vectors() const {
  std::size_t count = 0;
  for (const auto& unit : units_) {
    for (const zero3::FlatVector& vector : unit->vectors()) count += vector.trains() ? 1 : 0;
  }
  return count;
}

void Engine::Impl::take_memory() {
  const zero3::Plan& plan = *plan_;
  for (std::size_t i = 0; i < units_.size(); ++i) {
    set_gradient_homes(*units_[i], plan.gradient_tier[i]);
  }
  tiers_.finish_homes();
  tiering::HostArena& host = tiers_.host_arena();
  tiering::DeviceSpan regions;
  if (plan.device_cache_bytes > 0) {
    regions = tiers_.take_on_device(plan.device_cache_bytes, "unsharded units");
  }
  if (plan.fetch_slots > 0) {
    fetch_slots_ = std::make_unique<tiering::SlotPool>(host, plan.fetch_slots, plan.slot_bytes);
    tiers_.register_memory(fetch_slots_->memory(), "staging of weights", /*by_disk=*/true);
  }
  mover_ = std::make_unique<zero3::UnitMover>(
      // Where every rank keeps a shard on the device, units get a region as from host memory.
      zero3::ScheduleOptions{
          .home = plan_input_.parameter_tier != Tier::kDevice || plan_input_.units_stay()
                      ? plan_input_.parameter_tier
                      : Tier::kHost,
          .device_bytes = plan.device_cache_bytes,
          // A shard among others does not begin where the disk can write to.
          .fetches_into_regions = plan_input_.device_memory_is_host && ranks_.size() == 1,
          .staging_slots = static_cast<std::uint32_t>(plan.fetch_slots),
          .prefetch_elements = plan_input_.prefetch_elements},
      units_,
      zero3::UnitMover::Places{tiers_.device(), regions, plan_input_.parameter_tier, ranks_,
                               tiers_.store(), fetch_slots_.get()},
      counters_);
  mover_->expect_step(config_.gradient_accumulation_steps == 1);
  if (plan.gradient_slots > 0) {
    gradient_slots_ =
        std::make_unique<tiering::SlotPool>(host, plan.gradient_slots, plan.slot_bytes);
    tiers_.register_memory(gradient_slots_->memory(), "staging of gradients", /*by_disk=*/true);
    tiering::DeviceSpan exchange;
    if (plan.exchange_bytes > 0) {
      exchange = tiers_.take_on_device(plan.exchange_bytes, "gradients from all ranks");
    }
    gradients_ = std::make_unique<zero3::GradientCoordinator>(
        zero3::GradientCoordinator::Places{
            tiers_.device(), torch_device_,
            tiers_.take_on_device(plan.bucket_bytes, "gradient bucket"), exchange, *gradient_slots_,
            tiers_.store(), ranks_},
        threads_, counters_);
    optim_cpu::WindowPipeline::Options options{.formats = plan.formats,
                                               .gradients_on_nvme = plan.gradients_on_nvme,
                                               .shards_max = trained_vectors()};
    if (plan.windows > 0) {
      options.windows = plan.windows;
      options.window_elements = plan.window_elements;
    }
    pipeline_ = std::make_unique<optim_cpu::WindowPipeline>(
        options, plan.windows > 0 ? tiers_.places() : tiering::HomePlaces{}, host, threads_,
        counters_);
    tiers_.register_memory(pipeline_->memory(), "optimizer windows", /*by_disk=*/true);
  }
  state_access_ = std::make_unique<zero3::StateAccess>(state_passage(), ranks_, fetch_slots_.get(),
                                                       gradient_slots_.get());
}

}  // namespace strata
