#include "zero3/machinery.h"

#include <malloc.h>

#include <utility>

#include "strata/base/error.h"
#include "strata/base/machine_memory.h"
#include "strata/base/units.h"
#include "zero3/plan_facts.h"
#include "zero3/ranks/agreement.h"
#include "zero3/ranks/run_facts.h"

namespace strata::zero3 {

namespace {

/// Returns memory that modules held before they were sharded: it was freed in pieces that the
/// allocator keeps, some 30 MiB for each block of a large model.
void return_freed_memory() {
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
}

/// The plan of a machine. A host budget that it has no memory for is a bound, and is not filled.
Plan plan_for_machine(PlanInput input, Logger& log) {
  const auto memory_of = [&](const Plan& plan) {
    return plan.total.host + (input.device_memory_is_host ? plan.total.device : 0);
  };
  Plan plan = make_plan(input);
  if (memory_of(plan) > machine_memory().bytes) {
    input.host_cache = false;
    Plan least = make_plan(input);
    if (least.total.host < plan.total.host) {
      log.warning("the host budget of " + format_bytes(input.budgets.host) +
                  " is more than this machine has memory for, and is not filled with states from "
                  "nvme; name one that fits (strata.budget.host)");
    }
    plan = std::move(least);
  }
  require_machine_memory(memory_of(plan));
  return plan;
}

}  // namespace

void Machinery::prepare() {
  if (spoiled_) throw UsageError(*spoiled_);
  if (prepared_) return;
  if (parts_.units.all().empty()) {
    throw UsageError("the engine has no units: give modules to shard() first");
  }
  if (plan_) {
    throw UsageError(
        "the engine could not take its memory or disk space before, and has a part of it; make a "
        "new engine");
  }
  if (parts_.ranks.size() > 1) {
    require_agreement(parts_.ranks, "the model", facts_of(parts_.units.plan_input().units));
  }
  parts_.units.check_patterns();
  parts_.units.release_staging();  // makes room for the plan's
  return_freed_memory();
  const PlanInput& input = parts_.units.plan_input();
  if (input.host_memory) {
    parts_.log.info("host memory: no budget named; bounded by " + describe(*input.host_memory));
  }
  plan_ = plan_for_machine(input, parts_.log);
  take_memory();
  prepared_ = true;
  if (!gradients_) {
    parts_.log.info("no parameter is trainable: backward and step will change nothing");
  }
}

void Machinery::take_memory() {
  parts_.units.take_gradient_homes(plan_->gradient_tier);
  parts_.units.keep_in_host_memory(plan_->cached);
  parts_.tiers.finish_homes();
  make_exchange();
  if (plan_->gradient_slots > 0) make_what_trains();
  make_mover();
  make_activations();
  states_ = std::make_unique<StateAccess>(parts_.units.passage(), parts_.ranks, fetch_slots_.get(),
                                          gradient_slots_.get());
}

void Machinery::make_exchange() {
  tiering::Tiers& tiers = parts_.tiers;
  DeviceExchange::Places places{.device = tiers.device(), .ranks = parts_.ranks};
  if (plan_->exchange_bytes > 0) {
    if (places.device.properties().memory_is_host) {
      places.received = tiers.take_on_device(plan_->exchange_bytes, "gradients from all ranks");
    } else {
      places.staging = tiers.host_arena().take(plan_->exchange_bytes, "exchange between ranks");
      tiers.register_memory(places.staging, "exchange between ranks", /*by_disk=*/false);
    }
  }
  exchange_ = std::make_unique<DeviceExchange>(places, parts_.counters);
}

void Machinery::make_mover() {
  tiering::Tiers& tiers = parts_.tiers;
  tiering::DeviceSpan regions;
  if (plan_->device_cache_bytes > 0) {
    regions = tiers.take_on_device(plan_->device_cache_bytes, "unsharded units");
  }
  if (plan_->fetch_slots > 0) {
    fetch_slots_ = std::make_unique<tiering::SlotPool>(tiers.host_arena(), plan_->fetch_slots,
                                                       plan_->slot_bytes);
    tiers.register_memory(fetch_slots_->memory(), "staging of weights", /*by_disk=*/true);
  }
  const PlanInput& input = parts_.units.plan_input();
  mover_ = std::make_unique<UnitMover>(
      schedule_options(*plan_, input), parts_.units.all(),
      UnitMover::Places{tiers.device(), regions, *exchange_, tiers.store(), fetch_slots_.get(),
                        step_thread_.get()},
      parts_.counters);
}

void Machinery::make_activations() {
  const tiering::ActivationRoom& room = parts_.units.plan_input().activations;
  if (room.is_empty()) return;
  tiering::Tiers& tiers = parts_.tiers;
  tiering::ActivationStore::Places places{
      .memory = tiers.host_arena().take(room.host_bytes(), "activations"),
      .store = tiers.store(),
      .extent = {},
      .device = &tiers.device()};
  if (room.places > 0) places.extent = tiers.store()->allocate(room.nvme_bytes(), "activations");
  tiers.register_memory(places.memory, "activations", /*by_disk=*/room.places > 0);
  activations_ = std::make_unique<Activations>(room, places, parts_.torch_device, parts_.counters);
}

void Machinery::make_what_trains() {
  tiering::Tiers& tiers = parts_.tiers;
  gradient_slots_ = std::make_unique<tiering::SlotPool>(tiers.host_arena(), plan_->gradient_slots,
                                                        plan_->slot_bytes);
  tiering::DeviceSpan buckets;
  if (plan_->bucket_bytes > 0) {
    buckets = tiers.take_on_device(plan_->bucket_bytes, "gradient buckets");
  }
  gradients_ = std::make_unique<GradientCoordinator>(
      GradientCoordinator::Places{tiers.device(), parts_.torch_device, buckets,
                                  PlanFacts(parts_.units.plan_input()).buckets_in(*plan_),
                                  *gradient_slots_, tiers.store(), *exchange_},
      parts_.threads, parts_.counters);
  optim_cpu::WindowPipeline::Options options{.formats = plan_->formats,
                                             .gradients_on_nvme = plan_->gradients_on_nvme,
                                             .shards_max = parts_.units.trained_vectors(),
                                             .is_beside = plan_->overlaps_step};
  if (plan_->windows > 0) {
    options.windows = plan_->windows;
    options.window_elements = plan_->window_elements;
  }
  pipeline_ = std::make_unique<optim_cpu::WindowPipeline>(
      options, plan_->windows > 0 ? tiers.places() : tiering::HomePlaces{}, tiers.host_arena(),
      parts_.threads, parts_.counters);
  tiers.register_memory(pipeline_->memory(), "optimizer windows", /*by_disk=*/true);
  // Behind the windows: where a limit refuses these, which may be many, those are registered.
  tiers.register_memory(gradient_slots_->memory(), "staging of gradients", /*by_disk=*/true);
  step_thread_ = std::make_unique<StepThread>(*pipeline_, tiers.store(), parts_.units.all().size(),
                                              parts_.counters,
                                              plan_->overlaps_step ? &parts_.counters : nullptr);
}

void Machinery::finish_step() {
  if (step_thread_) step_thread_->wait();
}

void Machinery::refuse_in_use(const std::string& what) const {
  const Unit* const unit = mover_ ? mover_->unit_in_use() : nullptr;
  if (unit == nullptr) return;
  throw UsageError(what + " was called while unit '" + unit->name() +
                   "' is in use, inside its run() or with_unsharded(); call it afterwards");
}

}  // namespace strata::zero3
