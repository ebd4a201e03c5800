#include "zero3/training.h"

#include <optional>
#include <string>
#include <utility>

#include "strata/base/error.h"
#include "zero3/sequence_pass.h"

namespace strata::zero3 {

// ---- micro-batches -----------------------------------------------------------------------------

void Training::check_room_for_micro_batch(const char* what) const {
  const std::int64_t micro_steps = parts_.state.micro_steps;
  if (micro_steps < parts_.config.gradient_accumulation_steps) return;
  throw UsageError(std::string(what) + " was called " + std::to_string(micro_steps + 1) +
                   " times for gradient_accumulation_steps = " + std::to_string(micro_steps) +
                   "; call step() after every backward()");
}

void Training::check_loss(const torch::Tensor& loss) const {
  if (!loss.defined() || loss.numel() != 1) {
    throw UsageError("backward() needs a loss of one element, not " +
                     (loss.defined() ? std::to_string(loss.numel()) : "an undefined tensor"));
  }
  if (!loss.requires_grad()) {
    throw UsageError(
        "backward() was given a loss that depends on nothing that is trained: it was computed "
        "under NoGradGuard, detached, or from frozen parameters alone");
  }
}

template <class Run>
auto Training::forget_if_it_fails(const Run& run) {
  const GradientCoordinator* const gradients = parts_.machinery.gradients();
  const std::uint64_t before = gradients != nullptr ? gradients->contributions() : 0;
  try {
    return run();
  } catch (...) {
    forget_failed_micro_batch(gradients != nullptr && gradients->contributions() != before);
    parts_.optimizer.give_up();
    throw;
  }
}

void Training::backward(const torch::Tensor& loss) {
  if (parts_.machinery.mover_if_made() == nullptr) {
    throw UsageError("backward() before any forward of a sharded module");
  }
  if (parts_.anchor.counts()) throw UsageError("backward() inside a backward of the same engine");
  check_room_for_micro_batch("backward()");
  check_loss(loss);
  note_other_backward();
  forget_if_it_fails([&] {
    const Anchor::OwnBackward own(parts_.anchor);
    run_backward(loss);
  });
  ++parts_.state.micro_steps;
  end_micro_batch(/*complete=*/true);
}

void Training::run_backward(const torch::Tensor& loss) const {
  const double factor =
      parts_.state.scaler.scale() / static_cast<double>(parts_.config.gradient_accumulation_steps);
  // A 16-bit loss times the loss scale may be more than its format holds.
  const bool widen = factor != 1.0 && loss.element_size() < 4;
  const torch::Tensor wide = widen ? loss.to(torch::kFloat32) : loss;
  (factor == 1.0 ? wide : wide * factor).backward();
}

void Training::end_micro_batch(bool complete) {
  parts_.machinery.mover().end_micro_batch(complete);
  expect_step();
}

void Training::expect_step() {
  // Where nothing is trained, no weights change between one pass and the next.
  parts_.machinery.mover().expect_step(parts_.machinery.gradients() != nullptr &&
                                       parts_.state.micro_steps + 1 >=
                                           parts_.config.gradient_accumulation_steps);
}

void Training::skip_micro_batch() {
  parts_.machinery.prepare();
  check_room_for_micro_batch("skip_micro_batch()");
  ++parts_.state.micro_steps;
  const bool trains = parts_.machinery.gradients() != nullptr;
  if (!trains) parts_.machinery.expect_passes();
  end_micro_batch(/*complete=*/!trains);
}

void Training::forget_failed_micro_batch(bool is_in_homes) {
  parts_.machinery.mover().end_micro_batch(/*complete=*/false);
  if (!is_in_homes) return;
  const std::int64_t micro_steps = parts_.state.micro_steps;
  if (micro_steps > 0) {
    parts_.log.warning("micro-batch " + std::to_string(micro_steps + 1) +
                       " of the step failed in backward, after some of its gradients had been "
                       "added; the " +
                       std::to_string(micro_steps) +
                       " before it are forgotten as well, and the step starts anew");
  }
  drop_step();
}

void Training::zero_grad() {
  parts_.machinery.refuse_in_use("zero_grad()");
  drop_step();
}

void Training::resume(const TrainingState& state) {
  parts_.state = state;
  expect_step();
}

void Training::drop_step() {
  if (parts_.machinery.gradients() != nullptr) parts_.machinery.gradients()->settle();
  parts_.optimizer.forget_gradients();
  parts_.state.micro_steps = 0;
  if (parts_.machinery.mover_if_made() != nullptr) expect_step();
}

void Training::note_other_backward() {
  if (!parts_.anchor.take_other_backward()) return;
  if (std::exchange(told_of_other_backward_, true)) return;
  parts_.log.warning(
      "a backward that was not this engine's went through its units: it gave inputs their "
      "gradients and parameters none; what is to train the parameters goes through "
      "Engine::backward (this is said once)");
}

// ---- batches -----------------------------------------------------------------------------------

void Training::check_batch(const UnitSequence& model, std::size_t micro_batches) const {
  if (model.parts().empty()) {
    throw UsageError("train_batch() was given a model without units; add them to the UnitSequence");
  }
  if (model.parts().back().is_beside) {
    throw UsageError(
        "train_batch() was given a model whose last part stands beside another; the last part "
        "returns the loss alone: add() one behind them");
  }
  const auto most = static_cast<std::size_t>(parts_.config.gradient_accumulation_steps);
  if (micro_batches < 1 || micro_batches > most) {
    throw UsageError(
        "train_batch() was given " + std::to_string(micro_batches) +
        " micro-batches; they are 1 to gradient_accumulation_steps = " + std::to_string(most));
  }
  if (parts_.state.micro_steps > 0) {
    throw UsageError("train_batch() was called after " + std::to_string(parts_.state.micro_steps) +
                     " backward() without their step; call step_now() or zero_grad() before it");
  }
  if (parts_.anchor.counts()) {
    throw UsageError("train_batch() inside a backward of the same engine");
  }
}

BatchReport Training::train_batch(const UnitSequence& model,
                                  std::span<const UnitSequence::Tensors> micro_batches) {
  check_batch(model, micro_batches.size());
  parts_.machinery.prepare();
  parts_.machinery.refuse_in_use("train_batch()");
  note_other_backward();
  parts_.machinery.mover().expect_step(true);
  const std::vector<torch::Tensor> losses =
      forget_if_it_fails([&] { return run_batch_or_refuse(model, micro_batches); });
  parts_.state.micro_steps = static_cast<std::int64_t>(micro_batches.size());
  end_micro_batch(/*complete=*/true);
  BatchReport report;
  {
    const PhaseScope phase(parts_.counters.timeline(), "update");
    report.step = step(/*now=*/true);
  }
  for (const torch::Tensor& loss : losses) report.losses.push_back(loss.item<double>());
  return report;
}

std::vector<torch::Tensor> Training::run_batch_or_refuse(
    const UnitSequence& model, std::span<const UnitSequence::Tensors> micro_batches) {
  try {
    return run_batch(model, micro_batches);
  } catch (const NonfiniteGradient&) {
    parts_.machinery.mover().end_micro_batch(/*complete=*/false);
    parts_.optimizer.refuse();
  }
}

std::vector<torch::Tensor> Training::run_batch(
    const UnitSequence& model, std::span<const UnitSequence::Tensors> micro_batches) {
  const auto phase = [&](const char* name) { return PhaseScope(parts_.counters.timeline(), name); };
  SequencePass::WhenComplete update;
  if (parts_.optimizer.updates_early()) {
    update = [&, lr = parts_.optimizer.base_lr()](Unit& unit) {
      parts_.optimizer.update_early(unit, lr);
    };
  }
  SequencePass pass(model, micro_batches, parts_.anchor, std::move(update));
  {
    const PhaseScope forward = phase("forward");
    pass.forward();
  }
  std::vector<torch::Tensor> losses;
  {
    const PhaseScope loss = phase("loss");
    losses = pass.finish([&](const torch::Tensor& of_micro_batch) {
      check_loss(of_micro_batch);
      run_backward(of_micro_batch);
    });
  }
  const PhaseScope backward = phase("backward");
  pass.backward();
  return losses;
}

// ---- step --------------------------------------------------------------------------------------

StepReport Training::step(bool now) {
  TrainingState& state = parts_.state;
  if (state.micro_steps == 0) throw UsageError("step() without a backward() since the last step");
  parts_.machinery.refuse_in_use("step()");
  note_other_backward();
  StepReport report{
      .step = state.step, .lr = parts_.optimizer.base_lr(), .loss_scale = state.scaler.scale()};
  if (state.micro_steps < parts_.config.gradient_accumulation_steps && !now) return report;

  state.micro_steps = 0;
  expect_step();
  if (parts_.machinery.gradients() == nullptr) return report;
  parts_.machinery.gradients()->settle();
  if (!parts_.optimizer.has_gradients()) return report;
  const std::optional<double> norm = parts_.optimizer.gradient_norm();
  report.overflow = !norm;
  if (norm) {
    report.grad_norm = *norm;
    parts_.optimizer.update(*norm, report.lr);
    report.step = ++state.step;
    report.updated = true;
  } else {
    parts_.optimizer.skip();
  }
  parts_.optimizer.forget_gradients();
  state.scaler.update(report.overflow);
  parts_.machinery.mover().begin_step();
  report_exchange(report);
  return report;
}

void Training::report_exchange(StepReport& report) {
  const DeviceExchange::Received& received = parts_.machinery.exchange().received();
  report.gathered_bytes = received.weights - reported_.weights;
  report.reduced_bytes = received.gradients - reported_.gradients;
  reported_ = received;
}

}  // namespace strata::zero3
