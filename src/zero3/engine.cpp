#include "strata/zero3/engine.h"

#include <utility>

#include "strata/base/error.h"
#include "strata/optim_cpu/compute_threads.h"
#include "strata/tiering/tiers.h"
#include "strata/zero3/queue_options.h"
#include "strata/zero3/world.h"
#include "zero3/checkpoint/checkpoints.h"
#include "zero3/entrance.h"
#include "zero3/machinery.h"
#include "zero3/optimizer_step.h"
#include "zero3/parameter_groups.h"
#include "zero3/ranks/agreement.h"
#include "zero3/ranks/host_share.h"
#include "zero3/ranks/one_rank.h"
#include "zero3/ranks/run_facts.h"
#include "zero3/state_editor.h"
#include "zero3/training.h"
#include "zero3/training_state.h"
#include "zero3/unit_registry.h"

/// \file
/// The engine puts its parts together; the work is theirs.

namespace strata {

using tiering::Budget;
using tiering::Tier;

namespace {

tiering::Tiers::Options tiers_options(const formats::DsConfig& config, tiering::Device* device) {
  const std::vector<std::string> names = config.nvme_directories();
  return {.device_bytes = config.strata.device_budget_bytes.value_or(Budget::kUnlimited),
          .host_bytes = config.strata.host_budget_bytes.value_or(Budget::kUnlimited),
          .nvme_bytes = config.strata.nvme_budget_bytes.value_or(Budget::kUnlimited),
          .directories = {names.begin(), names.end()},
          .chunk_bytes = config.strata.chunk_bytes,
          .io = zero3::queue_options(config),
          .device = device};
}

/// This rank's part of its host's memory, or where another rank has less, that: so that all make
/// the same plan.
HostMemoryBound host_memory(const EnginePlace& place, zero3::Ranks& ranks, std::uint64_t on_host) {
  struct Bytes {
    std::uint64_t available, reserve;
  };
  HostMemoryBound bound =
      (place.host_memory ? *place.host_memory : host_memory_bound()).part_of(on_host);
  for (const Bytes& other : ranks.gather_values(Bytes{bound.available, bound.reserve})) {
    if (other.available - other.reserve >= bound.bytes()) continue;
    bound = {other.available, other.reserve, "the rank that has least"};
  }
  return bound;
}

zero3::PlanPlace plan_place(const EnginePlace& place, zero3::Ranks& ranks,
                            const zero3::HostShare& share) {
  const tiering::Device* const device = place.device;
  const bool is_host = device == nullptr || device->properties().memory_is_host;
  return {.world_size = ranks.size(),
          .device_memory_is_host = is_host,
          .host_memory = host_memory(place, ranks, share.ranks)};
}

/// Threads of the optimizer: those that the config names, else this rank's share of the cores.
int threads_of(const formats::DsConfig& config, const zero3::Ranks& ranks,
               const zero3::HostShare& share) {
  if (config.strata.threads > 0 || ranks.size() == 1)
    return static_cast<int>(config.strata.threads);
  return share.threads;
}

/// The config of a rank whose others have the same, with its own directories.
formats::DsConfig agreed_config(formats::DsConfig config, zero3::Ranks& ranks) {
  config.resolve_batch(ranks.size());
  if (ranks.size() == 1) return config;
  require_agreement(ranks, "the config", zero3::facts_of(config));
  if (config.strata.nvme_of_ranks == formats::NvmeOfRanks::kOwn) {
    config.strata.nvme_directories = own_directories(ranks, config.nvme_directories());
  }
  return config;
}

/// Tells of a launcher whose other ranks this engine does not know.
void warn_of_other_ranks(Logger& log) {
  try {
    const World world = World::of_this_process();
    if (world.size == 1) return;
    log.warning(
        "this process is rank " + std::to_string(world.rank) + " of " + std::to_string(world.size) +
        " (" + world.source +
        "), and its engine trains alone: join the others with strata::join and name them in "
        "EnginePlace::ranks");
  } catch (const ConfigError&) {
    return;  // whatever those variables are for, it is not this
  }
}

}  // namespace

/// The parts, in the order in which they depend on one another.
struct Engine::Impl {
  Impl(formats::DsConfig given, const EnginePlace& place, Logger* given_log)
      : own_log(given_log == nullptr ? std::make_unique<Logger>() : nullptr),
        log(given_log == nullptr ? *own_log : *given_log),
        own_ranks(place.ranks == nullptr ? std::make_unique<zero3::OneRank>() : nullptr),
        ranks(place.ranks == nullptr ? *own_ranks : *place.ranks),
        config(agreed_config(std::move(given), ranks)),
        share(zero3::host_share(ranks)),
        threads(threads_of(config, ranks, share), optim_cpu::InstructionSet(config.strata.simd)),
        torch_device(place.torch_device),
        empty_plan(zero3::plan_input_from(config, {}, plan_place(place, ranks, share))),
        tiers(tiers_options(config, place.device), counters, log),
        groups(config),
        state(zero3::TrainingState::beginning(config)),
        units({config, tiers, torch_device, ranks, threads, groups, log}, std::move(empty_plan)),
        machinery({units, tiers, torch_device, ranks, threads, counters, log}),
        editor(units, machinery),
        entrance(machinery, editor, threads, counters),
        optimizer({config, state, groups, units, machinery, editor, ranks, log}),
        training({config, state, machinery, optimizer, entrance.anchor(), counters, log}),
        checkpoints({config, state, groups, units, machinery, editor, training, optimizer, ranks,
                     torch_device, log}) {
    if (own_ranks) warn_of_other_ranks(log);
    for (const std::string& note : config.notes) log.warning(config.name + ": " + note);
  }

  std::unique_ptr<Logger> own_log;  // made where none was handed in
  Logger& log;
  std::unique_ptr<zero3::Ranks> own_ranks;  // made where none were handed in
  zero3::Ranks& ranks;
  formats::DsConfig config;
  zero3::HostShare share;
  optim_cpu::ComputeThreads threads;  // used by hops 6 and 7
  Counters counters;
  c10::Device torch_device;
  zero3::PlanInput empty_plan;  // refuses configs before tiers make folders; then the units' own
  tiering::Tiers tiers;
  zero3::ParameterGroups groups;
  zero3::TrainingState state;
  zero3::UnitRegistry units;
  zero3::Machinery machinery;
  zero3::StateEditor editor;
  zero3::Entrance entrance;
  zero3::OptimizerStep optimizer;
  zero3::Training training;
  zero3::Checkpoints checkpoints;
};

Engine Engine::from_config(const std::filesystem::path& ds_config, Logger* log) {
  return Engine(formats::DsConfig::from_file(ds_config), log);
}

Engine::Engine(formats::DsConfig config, Logger* log)
    : Engine(std::move(config), EnginePlace{}, log) {}
Engine::Engine(formats::DsConfig config, const EnginePlace& place, Logger* log)
    : impl_(std::make_unique<Impl>(std::move(config), place, log)) {}
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;
Engine::~Engine() = default;

// ---- setting up --------------------------------------------------------------------------------

void Engine::add_parameter_group(ParameterGroup group) { impl_->groups.add(std::move(group)); }

zero3::UnitHandle Engine::make_unit(torch::nn::Module& module, ShardOptions options) {
  if (impl_->machinery.plan() != nullptr) {
    throw UsageError(
        "a module was given to shard() after the first forward; shard all modules, "
        "then train");
  }
  return impl_->units.add(module, std::move(options), {impl_->entrance, impl_->editor});
}

void Engine::prepare() { impl_->machinery.prepare(); }

void Engine::before_each_unit(std::function<void()> hook) {
  impl_->entrance.before_each_unit(std::move(hook));
}

// ---- training ----------------------------------------------------------------------------------

void Engine::backward(const torch::Tensor& loss) { impl_->training.backward(loss); }
BatchReport Engine::train_batch(const UnitSequence& model,
                                std::span<const UnitSequence::Tensors> micro_batches) {
  return impl_->training.train_batch(model, micro_batches);
}
StepReport Engine::step() { return impl_->training.step(/*now=*/false); }
StepReport Engine::step_now() { return impl_->training.step(/*now=*/true); }
void Engine::finish_step() { impl_->machinery.finish_step(); }
void Engine::skip_micro_batch() { impl_->training.skip_micro_batch(); }
void Engine::zero_grad() { impl_->training.zero_grad(); }

double Engine::lr(std::string_view group) const {
  return impl_->groups.lr_of(group, impl_->optimizer.base_lr(), impl_->state.rates);
}

void Engine::set_lr(double lr, std::string_view group) {
  impl_->groups.check_name(group);
  zero3::ParameterGroups::check_lr(lr);
  impl_->state.rates.insert_or_assign(std::string(group), lr);
}

void Engine::follow_schedule(std::string_view group) {
  impl_->groups.check_name(group);
  impl_->state.rates.erase(std::string(group));
}

// ---- what ranks have in common -----------------------------------------------------------------

void Engine::sum_over_ranks(std::span<double> values) { impl_->ranks.sum(values); }
void Engine::require_agreement(std::string_view what,
                               const std::vector<std::pair<std::string, std::string>>& facts) {
  zero3::require_agreement(impl_->ranks, what, facts);
}

// ---- looking at states -------------------------------------------------------------------------

void Engine::visit_gradients(const ParameterVisitor& visit) {
  impl_->editor.visit_gradients(visit, impl_->optimizer.unscale());
}
std::vector<UnitNorm> Engine::gradient_norms() const { return impl_->optimizer.gradient_norms(); }
void Engine::visit_masters(const ParameterVisitor& visit) { impl_->editor.visit_masters(visit); }
void Engine::edit_masters(const ParameterInitializer& edit) { impl_->editor.edit_masters(edit); }

// ---- checkpoints -------------------------------------------------------------------------------

CheckpointInfo Engine::save_checkpoint(const std::filesystem::path& directory, std::string_view tag,
                                       const CheckpointOptions& options) {
  return impl_->checkpoints.save(directory, tag, options);
}
CheckpointInfo Engine::load_checkpoint(const std::filesystem::path& directory, std::string_view tag,
                                       const std::function<void()>& before_each_piece) {
  return impl_->checkpoints.load(directory, tag, before_each_piece);
}

c10::Device Engine::device() const { return impl_->torch_device; }
const formats::DsConfig& Engine::config() const { return impl_->config; }
CounterReading Engine::counters() const { return impl_->counters.read(); }
tiering::ActivationReading Engine::activations() const {
  const zero3::Activations* const activations = impl_->machinery.activations();
  return activations != nullptr ? activations->reading() : tiering::ActivationReading{};
}
void Engine::record_into(Timeline* timeline) {
  impl_->machinery.finish_step();
  impl_->counters.record_into(timeline);
}
const zero3::PlanInput& Engine::plan_input() const { return impl_->units.plan_input(); }

const zero3::Plan& Engine::plan() const {
  const zero3::Plan* const plan = impl_->machinery.plan();
  if (plan == nullptr) throw UsageError("there is no plan before prepare() or the first forward");
  return *plan;
}

TierUse Engine::use(Tier tier) const {
  const Budget& budget = impl_->tiers.budget(tier);
  return {budget.used(), budget.peak(), budget.limit()};
}

std::chrono::nanoseconds Engine::disk_busy() const {
  const aio::IoQueue* const queue = impl_->tiers.queue();
  return queue != nullptr ? queue->statistics().busy : std::chrono::nanoseconds(0);
}

std::string Engine::io_description() const {
  const aio::IoQueue* const queue = impl_->tiers.queue();
  return queue != nullptr ? queue->description() : "none";
}

}  // namespace strata
