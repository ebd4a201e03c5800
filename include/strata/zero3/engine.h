#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "strata/base/counters.h"
#include "strata/base/log.h"
#include "strata/base/machine_memory.h"
#include "strata/formats/ds_config.h"
#include "strata/tiering/activation_room.h"
#include "strata/tiering/device.h"
#include "strata/zero3/checkpoint.h"
#include "strata/zero3/parameter_group.h"
#include "strata/zero3/plan.h"
#include "strata/zero3/sharded.h"
#include "strata/zero3/sharding.h"
#include "strata/zero3/step_report.h"
#include "strata/zero3/unit_sequence.h"

namespace strata::zero3 {
class Ranks;
}

namespace strata {

/// A tier's bytes: held now, held at most so far, and allowed.
struct TierUse {
  std::uint64_t used = 0, peak = 0, budget = 0;
};

/// The place of an engine: its device, and its rank. The default is host memory with the device
/// tier's budget (the device of a machine without a GPU), and no other ranks.
struct EnginePlace {
  /// Outlives the engine; null: host memory.
  tiering::Device* device = nullptr;
  /// LibTorch's name for the same device; its default stream there is StreamRole::kCompute.
  c10::Device torch_device = c10::Device(c10::DeviceType::CPU);
  /// Outlives the engine; null: one rank. Several ranks exchange host memory so far: what is on
  /// another device goes through it.
  zero3::Ranks* ranks = nullptr;
  /// Bounds host memory where the config names no host budget; nullopt: what this machine and its
  /// cgroup have available when the engine is made, less a reserve (host_memory_bound()).
  std::optional<HostMemoryBound> host_memory = std::nullopt;
};

/// The offload engine: owns the parameters, gradients and optimizer states of the modules given to
/// `shard`, keeps them in the tiers that the config names, and moves each byte to where it is
/// needed just before it is needed.
///
///     auto engine = strata::Engine::from_config("ds_config.json");
///     auto block = engine.shard(Block(options));  // parameters now live in their tiers
///     auto loss = loss_of(block(x));              // fetched, used, released
///     engine.backward(loss);                      // gradients go straight to their home
///     engine.step();  // at accumulation boundaries: clip, Adam, write back
///
/// Several ranks: each has an engine, and a shard of every unit's states. All shard the same
/// modules in the same order and make the same calls, each with its own batches; their gradients
/// are averaged. Masters, gradients and parameters that are read and written between steps are the
/// same on all ranks.
///
/// Memory: everything is taken when it is set up (`shard`, and `prepare` or the first forward);
/// later steps take nothing more. Peak bytes per tier equal `plan().total`. Thread: all methods and
/// all forwards of sharded modules from one thread. Move-only; modules made by `shard` are unusable
/// when it is gone (UsageError). Errors: ConfigError, BudgetError, IoError, CorruptData,
/// UsageError, DataError (see base/error.h). After a UsageError or DataError everything is as it
/// was before the call, and the run can go on. After IoError or CorruptData from forward, backward
/// or step the states are undefined: make a new engine.
class Engine {
 public:
  /// Reads DeepSpeed's JSON. Warnings and choices (I/O backend, keys without effect) go to `log`,
  /// which must outlive the engine; null: stderr.
  [[nodiscard]] static Engine from_config(const std::filesystem::path& ds_config,
                                          Logger* log = nullptr);
  explicit Engine(formats::DsConfig config, Logger* log = nullptr);
  Engine(formats::DsConfig config, const EnginePlace& place, Logger* log = nullptr);
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;
  ~Engine();

  // ---- setting up ----------------------------------------------------------------------------

  /// Gives parameters hyperparameters of their own. Applies to modules that are sharded later.
  /// Throws UsageError for a name that is taken or a hyperparameter that the config's optimizer
  /// does not have, ConfigError for one out of range.
  void add_parameter_group(ParameterGroup group);

  /// Makes `module` a unit. Its parameters' values are moved to their home and their memory is
  /// released; while the unit is not in use a parameter has no data (LibTorch throws when it is
  /// read). A parameter that is registered twice counts once. Floating buffers get the compute
  /// format, the others stay as they are. In a run of 16 bits, parameters and floating buffers
  /// whose full names match strata.keep_fp32 are fp32. Parameters whose requires_grad is false are
  /// frozen for good: no gradient, no optimizer state; others can be frozen for a while later on
  /// (set_requires_grad). Units are best made in the order in which forward uses them.
  /// Throws, with the module as it was: UsageError after the first forward, for a parameter that
  /// belongs to another unit already (a tied weight belongs to one unit: call its `run` twice), is
  /// a view of another, has a type that fp32 cannot hold, or is on another device, and for a name
  /// that another unit has; DataError for a value that is not finite or beyond the compute
  /// format; BudgetError and IoError when its states find no room. Where an initializer throws, the
  /// room taken for its unit stays taken.
  template <class Module>
  [[nodiscard]] Sharded<Module> shard(Module module, ShardOptions options = {});

  /// Makes the plan and takes all memory. Called by the first forward when it has not been called
  /// before. Throws BudgetError with the smallest budget that works, or when the plan asks for more
  /// than the machine or its cgroup has; IoError when the disk has no room; UsageError without
  /// units, and after a call that took a part of the memory and failed.
  void prepare();

  /// Calls `hook` once for every entry of a unit and once for its backward, before anything of it
  /// is done, in the grad mode of the caller. An exception from it (an interruption, say) ends the
  /// forward, or the backward as any failure does; the engine can go on afterwards.
  void before_each_unit(std::function<void()> hook);

  // ---- training ------------------------------------------------------------------------------

  /// Computes the gradients of `loss` (divided by the accumulation steps, times the loss scale) and
  /// adds them to their homes. `loss` is a scalar that depends on sharded modules. Gradients count
  /// only while this runs: another engine's backward, torch::autograd::grad and loss.backward()
  /// give inputs their gradients, and parameters none.
  /// When it throws, nothing of this micro-batch counts. If some of it had been added to earlier
  /// micro-batches of the same step already, those cannot count either: the step starts anew, and
  /// the log says so. Throws UsageError before any forward, for a loss that depends on nothing that
  /// is trained, and for more micro-batches than the accumulation has.
  void backward(const torch::Tensor& loss);

  /// Call after every `backward`. At an accumulation boundary: global norm, clipping, Adam,
  /// write-back. As in torch, a parameter that had no gradient in the step is left out of it: no
  /// decay, no moments, and its own count of steps, which bias correction uses, stays. Throws
  /// UsageError without a backward since the last step, and while a unit is in use.
  ///
  /// If a gradient is Inf or NaN, nothing of the step is applied, on any rank: where
  /// DsConfig::skips_nonfinite the step is left out, which the report and a warning say; else
  /// DataError names the first such parameter, and the gradients are dropped as by zero_grad.
  ///
  /// Where states pass through windows (Plan::overlaps_step), the updates go on beside what the
  /// program does next, in the order of forward: a unit that is entered waits for its own update,
  /// what reads or changes states waits for all. No number depends on it. An error that such an
  /// update meets is thrown by whatever waits for it, and by every later call that does.
  StepReport step();
  /// Makes the step before the accumulation is full, for the last micro-batches of an epoch. The
  /// gradients count as they are, each divided by gradient_accumulation_steps.
  StepReport step_now();
  /// Waits until the last step is complete, for programs that measure time. Throws what an update
  /// failed with.
  void finish_step();
  /// Trains on a batch, forward, backward and step, with a model that is a sequence of units: all
  /// micro-batches go through one unit before the next. Weights are read from their home twice a
  /// step, once for each direction, and gradients leave the device once, however many micro-batches
  /// there are; what goes from unit to unit is kept for all of them. The last unit computes one
  /// loss after the other, each with its backward.
  ///
  /// Takes the place of `gradient_accumulation_steps` times forward and `backward`, and `step`.
  /// `micro_batches` are as many; fewer, at the end of an epoch, count as they do for `step_now`.
  /// Order of the sums: each use of a unit adds its micro-batches' gradients in fp32, in their
  /// order, on its rank; a unit with several uses then adds theirs as backward comes to them, and
  /// ranks add last. So where each unit is used once, on one rank, the numbers are those of the
  /// ordinary loop; and random numbers are drawn unit after unit.
  ///
  /// With strata.step_under_backward a unit is updated once its gradients are complete, while
  /// backward goes on through those before it. No number depends on it.
  ///
  /// When it throws, nothing of the batch counts, unless units were updated under backward: then
  /// the states are those of half a step, and all that uses them throws UsageError from then on.
  /// For a gradient that is not finite, DataError says which units were. Throws what `backward` and
  /// `step` throw;
  /// UsageError also for an empty model, no micro-batches or too many, a loss that does not come
  /// alone, and after a `backward` without its step.
  BatchReport train_batch(const UnitSequence& model,
                          std::span<const UnitSequence::Tensors> micro_batches);

  /// Counts a micro-batch without gradients, in place of a forward and `backward`. Call `step`
  /// afterwards, as after `backward`.
  void skip_micro_batch();
  /// Drops the gradients of the step under way: the next backward is its first micro-batch. Throws
  /// UsageError while a unit is in use.
  void zero_grad();

  /// The rate of the next step for the parameters in no group, or for those of `group`. Throws
  /// UsageError for an unknown group.
  [[nodiscard]] double lr(std::string_view group = {}) const;
  /// Sets the rate from the next step on. Without a name it replaces the schedule, for all groups
  /// that have no rate of their own; with one, it is that group's. Throws UsageError for an unknown
  /// group, ConfigError for a rate that is negative or not finite.
  void set_lr(double lr, std::string_view group = {});
  /// Undoes set_lr: the rate is the schedule's again, or the group's own. Throws as lr.
  void follow_schedule(std::string_view group = {});

  // ---- what ranks have in common -------------------------------------------------------------
  // Collectives: all ranks call them alike. They throw RankFailure, as training does.

  /// Adds each of `values` over the ranks, in rank order: all get the same bits. For what a program
  /// reports of all of them, and for what it decides by numbers that differ between ranks (time).
  void sum_over_ranks(std::span<double> values);
  /// Throws ConfigError on all ranks unless they come with the same names and values, in the same
  /// order: "`what` differs between ranks", with the first that does. An engine compares configs
  /// and models by itself; this is for what the program knows, its data and its options.
  void require_agreement(std::string_view what,
                         const std::vector<std::pair<std::string, std::string>>& facts);

  // ---- looking at states ---------------------------------------------------------------------
  // They throw UsageError while a unit is in use and inside one another; IoError, CorruptData and
  // DeadlineExceeded from the disk. All ranks call them alike.

  /// Calls visit(full name, fp32 gradient on the CPU) for every parameter that has one: the sum of
  /// the micro-batches so far, without the loss scale, before clipping. Call it between `backward`
  /// and `step`; afterwards there are none.
  void visit_gradients(const ParameterVisitor& visit);
  /// The norms of these gradients, for every unit that has some.
  [[nodiscard]] std::vector<UnitNorm> gradient_norms() const;
  /// Calls visit(full name, fp32 master) for each parameter of each unit, one in memory at a time.
  void visit_masters(const ParameterVisitor& visit);
  /// Lets `edit` change every master, the trainable ones of a unit first; moments and step counts
  /// stay. Throws what Sharded::with_unsharded throws; the parameters before the failing one are
  /// changed then.
  void edit_masters(const ParameterInitializer& edit);

  // ---- checkpoints ---------------------------------------------------------------------------
  // Collectives, into and from one directory that all ranks see; checkpoint.h has the format. Both
  // prepare the engine if nothing has, and stream piece by piece through staging buffers: no state
  // of a unit is in memory as a whole that was not. They throw UsageError while a unit is in use
  // and inside a visitor of states, IoError, CorruptData and DeadlineExceeded from the nvme tier.
  // What fails on one rank throws on all, naming it.

  /// Writes everything that a run goes on from: states of all parameters in their own formats,
  /// gradients between the micro-batches of a step, the place in the training and in schedules,
  /// the loss scale, states of random generators (LibTorch's of the CPU and of the device, and the
  /// units' own) and units' buffers. Modules that are not units, and what the program draws from
  /// other generators, are the program's own to save; `options.program` has room for that.
  ///
  /// `tag` names the checkpoint; empty: "step_00000120". One of that name is replaced. Waits for
  /// the last step; changes nothing in the engine, also when it fails: a full disk (IoError with
  /// ENOSPC, found before anything is written where the file system tells) costs this checkpoint
  /// and leaves `latest` as it was. DataError for a weight that is Inf or NaN, naming it, and where
  /// such a gradient is an error (`step`), for one of a step under way. ConfigError for a tag that
  /// cannot be a name, UsageError for program values that are not UTF-8 or buffers of a type that
  /// safetensors does not have. What cannot be removed of older checkpoints is a warning.
  CheckpointInfo save_checkpoint(const std::filesystem::path& directory, std::string_view tag = {},
                                 const CheckpointOptions& options = {});

  /// Reads what save_checkpoint wrote into an engine that has the same units, made in the same
  /// order; empty `tag`: the one that `latest` names. Gradients of a step under way are dropped.
  ///
  /// Goes on bit for bit as if nothing had stopped, at the same world size, and given the program's
  /// own part (data, modules that are not units). Tiers, budgets, directories, the I/O backend,
  /// threads and schedule of hops may be others. At another world size all states are the same bit
  /// for bit, cut anew; ranks beyond those that saved have the first one's buffers, and their
  /// random generators stay as they are. Learning rates, betas and other hyperparameters are this
  /// engine's config's; rates that set_lr had set are the checkpoint's.
  ///
  /// Everything is checked before anything is changed, sizes, checksums of all bytes, names, shapes
  /// and formats. Throws, with the engine as it was: IoError when there is no checkpoint or it
  /// cannot be read; DataError, naming file and reason, for one that is damaged, truncated or half
  /// there, or is of another model (units, names, shapes, what is frozen), another optimizer,
  /// another format of states, or in the middle of a longer accumulation. Files that fail or change
  /// after they were checked, and an nvme tier that does, leave half of the states: then the engine
  /// throws UsageError from everything that uses a unit; make a new one. `before_each_piece` is
  /// called now and then, may be empty, and may throw to end it, with the same effects.
  CheckpointInfo load_checkpoint(const std::filesystem::path& directory, std::string_view tag = {},
                                 const std::function<void()>& before_each_piece = {});

  /// The device where parameters are while they are used, and where batches belong.
  [[nodiscard]] c10::Device device() const;
  [[nodiscard]] const formats::DsConfig& config() const;
  /// The plan. Throws UsageError before `prepare`.
  [[nodiscard]] const zero3::Plan& plan() const;
  [[nodiscard]] TierUse use(tiering::Tier tier) const;
  [[nodiscard]] CounterReading counters() const;
  /// The inputs of units that went to the room for activations so far; zeros where there is none.
  [[nodiscard]] tiering::ActivationReading activations() const;
  /// Records what each hop does, and when, in `timeline` from now on; null: no more. It may be
  /// written to until another is given here or the engine is gone, whichever is first. Recording
  /// changes no number. Waits for the last step, and throws what finish_step throws.
  void record_into(Timeline* timeline);
  /// Time in which the disks had at least one transfer under way; 0 without any.
  [[nodiscard]] std::chrono::nanoseconds disk_busy() const;
  /// The I/O backend in use and why ("io_uring"), or "none".
  [[nodiscard]] std::string io_description() const;
  /// The input of plans; complete once the last unit is made.
  [[nodiscard]] const zero3::PlanInput& plan_input() const;

  struct Impl;

 private:
  [[nodiscard]] zero3::UnitHandle make_unit(torch::nn::Module& module, ShardOptions options);
  std::unique_ptr<Impl> impl_;
};

template <class Module>
Sharded<Module> Engine::shard(Module module, ShardOptions options) {
  zero3::UnitHandle unit = make_unit(*module, std::move(options));
  return Sharded<Module>(std::move(module), std::move(unit));
}

}  // namespace strata
