#pragma once

#include <torch/torch.h>

#include <span>

#include "strata/base/counters.h"
#include "strata/base/log.h"
#include "strata/formats/ds_config.h"
#include "strata/zero3/step_report.h"
#include "strata/zero3/unit_sequence.h"
#include "zero3/anchor.h"
#include "zero3/machinery.h"
#include "zero3/optimizer_step.h"
#include "zero3/training_state.h"

namespace strata::zero3 {

/// The engine's part of a training loop: it says which gradients count, and when they make a step.
/// Its member functions are those of Engine with the same names. Thread: the engine's.
class Training {
 public:
  /// The parts that it works with; all of them outlive it.
  struct Parts {
    const formats::DsConfig& config;
    TrainingState& state;
    Machinery& machinery;
    OptimizerStep& optimizer;
    Anchor& anchor;
    Counters& counters;
    Logger& log;
  };
  explicit Training(const Parts& parts) : parts_(parts) {}

  void backward(const torch::Tensor& loss);
  BatchReport train_batch(const UnitSequence& model,
                          std::span<const UnitSequence::Tensors> micro_batches);
  /// `now`: even if the accumulation is not full.
  StepReport step(bool now);
  void skip_micro_batch();
  void zero_grad();
  /// Goes on at the place of `state`; gradients of its step are in their homes.
  void resume(const TrainingState& state);

 private:
  void check_loss(const torch::Tensor& loss) const;
  void check_room_for_micro_batch(const char* what) const;
  void check_batch(const UnitSequence& model, std::size_t micro_batches) const;
  /// Computes the gradients of a micro-batch's loss, inside of OwnBackward.
  void run_backward(const torch::Tensor& loss) const;
  [[nodiscard]] std::vector<torch::Tensor> run_batch_or_refuse(
      const UnitSequence& model, std::span<const UnitSequence::Tensors> micro_batches);
  [[nodiscard]] std::vector<torch::Tensor> run_batch(
      const UnitSequence& model, std::span<const UnitSequence::Tensors> micro_batches);
  /// Calls `run`, in which gradients may come; forgets the micro-batch, or batch, if it throws.
  template <class Run>
  auto forget_if_it_fails(const Run& run);
  /// `complete`: forward and backward came, so that the order of units says something.
  void end_micro_batch(bool complete);
  void forget_failed_micro_batch(bool is_in_homes);
  /// Does zero_grad, also while units are in use.
  void drop_step();
  /// Tells the schedule whether a step follows the micro-batch that comes.
  void expect_step();
  void note_other_backward();
  /// Adds to a report the bytes that came from other ranks since the last one.
  void report_exchange(StepReport& report);

  Parts parts_;
  DeviceExchange::Received reported_;
  bool told_of_other_backward_ = false;
};

}  // namespace strata::zero3
