#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "strata/base/counters.h"
#include "strata/base/log.h"
#include "strata/optim_cpu/compute_threads.h"
#include "strata/optim_cpu/window_pipeline.h"
#include "strata/tiering/slot_pool.h"
#include "strata/tiering/tiers.h"
#include "strata/zero3/plan.h"
#include "zero3/activations.h"
#include "zero3/device_exchange.h"
#include "zero3/gradient_coordinator.h"
#include "zero3/ranks/ranks.h"
#include "zero3/state_access.h"
#include "zero3/step_thread.h"
#include "zero3/unit_mover.h"
#include "zero3/unit_registry.h"

namespace strata::zero3 {

/// The machinery that moves and updates the bytes of all units: the plan, and the parts made by it.
/// Thread: the engine's.
class Machinery {
 public:
  /// The parts that it works with; all of them outlive it.
  struct Parts {
    UnitRegistry& units;
    tiering::Tiers& tiers;
    c10::Device torch_device;  ///< LibTorch's name for the tiers' device
    Ranks& ranks;
    optim_cpu::ComputeThreads& threads;
    Counters& counters;
    Logger& log;
  };
  explicit Machinery(const Parts& parts) : parts_(parts) {}

  /// Makes the plan and takes all memory, the first time. Throws what Engine::prepare throws, and
  /// UsageError once the states are spoiled.
  void prepare();

  /// The plan; null before prepare(), and when that failed to make one.
  [[nodiscard]] const Plan* plan() const noexcept { return plan_ ? &*plan_ : nullptr; }
  /// Null until it is made.
  [[nodiscard]] UnitMover* mover_if_made() const noexcept { return mover_.get(); }
  // After prepare():
  [[nodiscard]] UnitMover& mover() const noexcept { return *mover_; }
  [[nodiscard]] StateAccess& states() const noexcept { return *states_; }
  /// Parts for training; null where nothing is trainable.
  [[nodiscard]] GradientCoordinator* gradients() const noexcept { return gradients_.get(); }
  [[nodiscard]] StepThread* step_thread() const noexcept { return step_thread_.get(); }
  [[nodiscard]] const DeviceExchange& exchange() const noexcept { return *exchange_; }
  [[nodiscard]] Ranks& ranks() const noexcept { return parts_.ranks; }
  /// Room for activations between forward and backward; null where the config gives none.
  [[nodiscard]] Activations* activations() const noexcept { return activations_.get(); }

  /// Tells that the program says when a pass without gradients is over, which it does where nothing
  /// is trained and the order of units is to be known.
  void expect_passes() noexcept { expects_passes_ = true; }
  [[nodiscard]] bool expects_passes() const noexcept { return expects_passes_; }

  /// Waits until the last step is complete, if there was one. Throws what StepThread::wait throws.
  void finish_step();
  /// Tells that the states of units are of no use any more: from now on `prepare` throws UsageError
  /// with `why`, and with it all that uses a unit.
  void spoil(std::string why) { spoiled_ = std::move(why); }
  /// Throws UsageError while a unit is in use: `what` was called.
  void refuse_in_use(const std::string& what) const;

 private:
  void take_memory();
  void make_exchange();
  void make_mover();
  void make_what_trains();
  void make_activations();

  Parts parts_;
  std::optional<Plan> plan_;
  bool prepared_ = false;
  bool expects_passes_ = false;
  std::optional<std::string> spoiled_;  // why its states are of no use
  std::unique_ptr<tiering::SlotPool> fetch_slots_, gradient_slots_;
  std::unique_ptr<DeviceExchange> exchange_;
  std::unique_ptr<GradientCoordinator> gradients_;
  std::unique_ptr<optim_cpu::WindowPipeline> pipeline_;
  std::unique_ptr<StepThread> step_thread_;
  std::unique_ptr<UnitMover> mover_;
  std::unique_ptr<StateAccess> states_;
  std::unique_ptr<Activations> activations_;
};

}  // namespace strata::zero3
