#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "strata/base/counters.h"
#include "strata/base/log.h"
#include "strata/optim_cpu/window_pipeline.h"
#include "strata/tiering/slot_pool.h"
#include "strata/tiering/tiers.h"
#include "strata/zero3/engine.h"
#include "strata/zero3/loss_scaler.h"
#include "strata/zero3/lr_schedule.h"
#include "zero3/compute_timer.h"
#include "zero3/gradient_coordinator.h"
#include "zero3/initial_placement.h"
#include "zero3/parameter_groups.h"
#include "zero3/ranks/ranks.h"
#include "zero3/state_access.h"
#include "zero3/unit.h"
#include "zero3/unit_mover.h"

namespace strata {

/// Everything an engine owns, in the order in which it depends on one another.
struct Engine::Impl {
  Impl(formats::DsConfig config, const EnginePlace& place, Logger* log);
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // ---- for the user (engine.h) ----
  [[nodiscard]] zero3::UnitHandle make_unit(torch::nn::Module& module, ShardOptions options);
  void add_parameter_group(ParameterGroup group);
  /// Plans and takes memory, once.
  void prepare();
  void backward(const torch::Tensor& loss);
  /// `now`: whether or not the accumulation is full.
  StepReport step(bool now);
  void skip_micro_batch();
  void zero_grad();
  /// Of the next step, where no group says otherwise.
  [[nodiscard]] double base_lr() const;
  void visit_gradients(const ParameterVisitor& visit);
  [[nodiscard]] std::vector<UnitNorm> gradient_norms();
  void visit_masters(const ParameterVisitor& visit);
  void edit_masters(const ParameterInitializer& edit);

  // ---- for a unit's entries (unit_function.cpp) ----
  /// Before anything of an entry happens.
  void begin_entry();
  /// Before a unit is entered, in either direction.
  void call_hook() const {
    if (before_each_unit_) before_each_unit_();
  }
  [[nodiscard]] zero3::UnitMover& mover() { return *mover_; }
  [[nodiscard]] zero3::ComputeTimer& compute_timer() { return compute_timer_; }
  [[nodiscard]] bool recompute() const { return config_.strata.recompute; }
  /// Whether floating inputs get a unit's compute format.
  [[nodiscard]] bool casts_inputs() const {
    return format_.precision != Precision::kFp32 && config_.fp16.auto_cast.value_or(true);
  }
  [[nodiscard]] const torch::Tensor& anchor() const { return anchor_; }
  /// Whether the backward under way is this engine's own.
  [[nodiscard]] bool counts_gradients() const { return in_backward_; }
  /// One for each trainable parameter of `unit`, undefined where there is none.
  void take_gradients(zero3::Unit& unit, torch::autograd::variable_list gradients);
  /// Makes what a visitor has changed of `unit`, in use, its parameters. Throws as
  /// Sharded::with_unsharded, and takes it back then.
  void take_over_changes(zero3::Unit& unit);
  void take_back_changes(zero3::Unit& unit);
  /// Throws UsageError while states are being shown to a visitor: the staging buffers are his.
  void refuse_inside_visitor(const std::string& what) const;
  /// The masters of units at rest. `what` asks for them.
  [[nodiscard]] zero3::StateAccess& states_at_rest(const std::string& what);

  // Fixed when the engine is made.
  std::unique_ptr<Logger> own_log_;
  Logger& log_;
  std::unique_ptr<zero3::Ranks> own_ranks_;  ///< where none were handed in
  zero3::Ranks& ranks_;
  formats::DsConfig config_;
  StateFormat format_;
  optim_cpu::ComputeThreads threads_;  ///< of hops 6 and 7
  Counters counters_;
  zero3::ComputeTimer compute_timer_{counters_};
  c10::Device torch_device_;
  zero3::PlanInput plan_input_;  ///< grows with every unit
  tiering::Tiers tiers_;
  zero3::LrSchedule schedule_;
  zero3::LossScaler scaler_;
  torch::Tensor anchor_;  ///< requires a gradient, so that every unit's backward comes

  // Grows with every unit.
  zero3::ParameterGroups groups_;
  std::vector<std::shared_ptr<zero3::Unit>> units_;
  std::unordered_map<const c10::TensorImpl*, zero3::Unit*> owner_of_;  ///< every parameter's unit
  std::unordered_set<std::string> parameter_names_;                    ///< full ones
  zero3::TakenMemory taken_;
  std::optional<zero3::InitialPlacement> placement_;

  // Made by prepare().
  std::optional<zero3::Plan> plan_;
  bool prepared_ = false;
  std::unique_ptr<tiering::SlotPool> fetch_slots_, gradient_slots_;
  std::unique_ptr<zero3::UnitMover> mover_;
  std::unique_ptr<zero3::GradientCoordinator> gradients_;
  std::unique_ptr<optim_cpu::WindowPipeline> pipeline_;
  std::unique_ptr<zero3::StateAccess> state_access_;

  // Where training stands.
  std::function<void()> before_each_unit_;
  std::int64_t micro_steps_ = 0;  ///< backwards since the last optimizer step
  std::int64_t step_ = 0;         ///< optimizer steps taken
  std::optional<double> lr_;      ///< in place of the schedule's
  bool in_backward_ = false;
  bool took_gradients_ = false;  ///< in the backward under way, or the last one
  bool told_of_other_backward_ = false;

 private:
  [[nodiscard]] zero3::StatePassage state_passage();
  /// What a sum over ranks of scaled gradients is to be multiplied with.
  [[nodiscard]] double unscale() const { return 1.0 / (scaler_.scale() * ranks_.size()); }
  [[nodiscard]] std::string unit_name(const torch::nn::Module& module, std::string wished) const;
  void set_homes(zero3::Unit& unit);
  void set_gradient_homes(zero3::Unit& unit, tiering::Tier tier);
  void take_memory();
  [[nodiscard]] std::size_t trained_vectors() const;
  void check_room_for_micro_batch(const char* what) const;
  void refuse_in_use(const std::string& what) const;
  /// `complete`: forward and backward came, so that the order of units says something.
  void end_micro_batch(bool complete);
  void forget_failed_micro_batch();
  /// zero_grad, also while units are in use.
  void drop_step();
  void note_other_backward();
  void update(StepReport& report, double norm);
  void take_step(const std::vector<optim_cpu::ShardStates>& shards,
                 std::span<const optim_cpu::UpdateGroup> groups);
  /// Norm of all gradients of the step, unscaled; nullopt after an overflow, whose unit is logged.
  [[nodiscard]] std::optional<double> gradient_norm();
  [[nodiscard]] bool has_gradients() const;
  void forget_gradients();
};

}  // namespace strata
