#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "strata/aio/io_queue.h"
#include "strata/base/counters.h"
#include "strata/base/log.h"
#include "strata/optim_cpu/window_pipeline.h"
#include "strata/tiering/budget.h"
#include "strata/tiering/host_arena.h"
#include "strata/tiering/pinned_slots.h"
#include "strata/tiering/region_allocator.h"
#include "strata/tiering/shard_store.h"
#include "strata/zero3/engine.h"
#include "strata/zero3/loss_scaler.h"
#include "strata/zero3/lr_schedule.h"
#include "zero3/gradient_coordinator.h"
#include "zero3/initial_placement.h"
#include "zero3/parameter_coordinator.h"
#include "zero3/unit.h"
#include "zero3/weight_stream.h"

namespace strata {

/// Everything an engine owns, in the order in which it depends on one another.
struct Engine::Impl {
  Impl(formats::DsConfig config, Logger* log);

  zero3::Unit& make_unit(torch::nn::Module& module, ShardOptions options);
  /// Plans and takes memory, once.
  void prepare();
  void backward(const torch::Tensor& loss);
  StepReport step();

  [[nodiscard]] zero3::ParameterCoordinator& parameters() { return *parameters_; }
  [[nodiscard]] zero3::GradientCoordinator& gradients() { return *gradients_; }
  [[nodiscard]] bool recompute() const { return config_.strata.recompute; }
  [[nodiscard]] const torch::Tensor& anchor() const { return anchor_; }
  [[nodiscard]] tiering::Budget& budget(tiering::Tier tier);

  // Fixed when the engine is made.
  std::unique_ptr<Logger> own_log_;
  Logger& log_;
  formats::DsConfig config_;
  StateFormat format_;
  optim_cpu::ComputeThreads threads_;  ///< of hops 6 and 7
  Counters counters_;
  tiering::Budget device_, host_, nvme_;
  std::unique_ptr<tiering::HostArena> device_arena_, host_arena_;
  std::unique_ptr<aio::IoQueue> queue_;
  std::unique_ptr<tiering::ShardStore> store_;
  zero3::LrSchedule schedule_;
  zero3::LossScaler scaler_;
  torch::Tensor anchor_;  ///< requires a gradient, so that every unit's backward comes

  // Grows with every unit.
  zero3::PlanInput plan_input_;
  std::vector<std::unique_ptr<zero3::Unit>> units_;
  std::optional<zero3::InitialPlacement> placement_;

  // Made by prepare().
  std::optional<zero3::Plan> plan_;
  std::unique_ptr<tiering::PinnedSlots> fetch_slots_, gradient_slots_;
  std::unique_ptr<tiering::RegionAllocator> regions_;
  std::unique_ptr<zero3::WeightStream> stream_;
  std::unique_ptr<zero3::ParameterCoordinator> parameters_;
  std::unique_ptr<zero3::GradientCoordinator> gradients_;
  std::unique_ptr<optim_cpu::WindowPipeline> pipeline_;
  std::vector<aio::IoPreparation> prepared_;  ///< staging slots and windows

  // Where training stands.
  std::int64_t micro_steps_ = 0;  ///< backwards since the last optimizer step
  std::int64_t step_ = 0;         ///< optimizer steps taken

 private:
  /// Lets the I/O engine prepare the memory that all transfers pass through.
  void prepare_io_memory();
  void set_homes(zero3::Unit& unit);
  void set_gradient_home(zero3::Unit& unit, tiering::Tier tier);
  [[nodiscard]] optim_cpu::StateHome make_home(tiering::Tier tier, std::uint64_t count,
                                               std::uint64_t element_bytes,
                                               const std::string& what);
  /// Norm of all gradients of the step, unscaled; nullopt after an overflow, whose unit is logged.
  [[nodiscard]] std::optional<double> gradient_norm();
  void forget_gradients();
};

}  // namespace strata
