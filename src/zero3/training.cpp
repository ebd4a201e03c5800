#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "strata/base/error.h"
#include "zero3/engine_impl.h"
#include "zero3/reduction.h"

/// \file
/// The engine's part of a training loop: which gradients count, and what a step makes of them.

namespace strata {

namespace {

/// True for the length of a scope.
class FlagScope {
 public:
  explicit FlagScope(bool& flag) : flag_(flag) { flag_ = true; }
  ~FlagScope() { flag_ = false; }
  FlagScope(const FlagScope&) = delete;
  FlagScope& operator=(const FlagScope&) = delete;

 private:
  bool& flag_;
};

/// The optimizer's groups of one step: hyperparameters and a count of steps, each pair once.
class StepGroups {
 public:
  StepGroups(std::vector<optim::OptimizerOptions> options, float gradient_scale)
      : options_(std::move(options)), gradient_scale_(gradient_scale) {}

  std::uint32_t index_of(const zero3::TrainableParameter& parameter) {
    if (!parameter.has_gradient) return optim_cpu::kNotUpdated;
    const std::int64_t step = parameter.steps + 1;
    const auto [place, is_new] =
        indices_.try_emplace({parameter.group, step}, static_cast<std::uint32_t>(groups_.size()));
    if (is_new) {
      groups_.push_back(
          {options_[parameter.group], {.step = step, .gradient_scale = gradient_scale_}});
    }
    return place->second;
  }

  [[nodiscard]] const std::vector<optim_cpu::UpdateGroup>& groups() const { return groups_; }

 private:
  std::vector<optim::OptimizerOptions> options_;
  float gradient_scale_;
  std::vector<optim_cpu::UpdateGroup> groups_;
  std::map<std::pair<std::uint32_t, std::int64_t>, std::uint32_t> indices_;
};

/// What of this rank's shard is updated with what, in order; padding goes with the parameter before
/// it.
std::vector<optim_cpu::Segment> segments_of(const zero3::Unit& unit,
                                            const zero3::FlatVector& vector, StepGroups& groups) {
  std::vector<optim_cpu::Segment> segments;  // of the whole vector
  for (const zero3::TrainableParameter& parameter : unit.trainables()) {
    if (&unit.vector_of(*parameter.layout) != &vector) continue;
    const std::uint32_t group = groups.index_of(parameter);
    if (!segments.empty() && segments.back().group == group) continue;
    const std::uint64_t begin = segments.empty() ? 0 : parameter.layout->offset;
    if (!segments.empty()) segments.back().end = begin;
    segments.push_back({begin, vector.map.padded_count(), group});
  }
  const auto [first, last] = vector.shard;
  std::erase_if(segments, [&](const optim_cpu::Segment& segment) {
    return segment.end <= first || segment.begin >= last;
  });
  for (optim_cpu::Segment& segment : segments) {
    segment.begin = std::max(segment.begin, first) - first;
    segment.end = std::min(segment.end, last) - first;
  }
  return segments;
}

}  // namespace

void Engine::Impl::begin_entry() {
  prepare();
  refuse_inside_visitor("a unit");
  call_hook();
}

// ---- backward --------------------------------------------------------------------------------

void Engine::Impl::check_room_for_micro_batch(const char* what) const {
  if (micro_steps_ < config_.gradient_accumulation_steps) return;
  throw UsageError(std::string(what) + " was called " + std::to_string(micro_steps_ + 1) +
                   " times for gradient_accumulation_steps = " + std::to_string(micro_steps_) +
                   "; call step() after every backward()");
}

void Engine::Impl::backward(const torch::Tensor& loss) {
  if (!plan_) throw UsageError("backward() before any forward of a sharded module");
  if (in_backward_) throw UsageError("backward() inside a backward of the same engine");
  check_room_for_micro_batch("backward()");
  if (!loss.defined() || loss.numel() != 1) {
    throw UsageError("backward() needs a loss of one element, not " +
                     (loss.defined() ? std::to_string(loss.numel()) : "an undefined tensor"));
  }
  if (!loss.requires_grad()) {
    throw UsageError(
        "backward() was given a loss that depends on nothing that is trained: it was computed "
        "under NoGradGuard, detached, or from frozen parameters alone");
  }
  note_other_backward();
  took_gradients_ = false;
  const double factor = scaler_.scale() / static_cast<double>(config_.gradient_accumulation_steps);
  try {
    const FlagScope scope(in_backward_);
    // A 16-bit loss times the loss scale may be more than its format holds.
    const bool widen = factor != 1.0 && loss.element_size() < 4;
    const torch::Tensor wide = widen ? loss.to(torch::kFloat32) : loss;
    (factor == 1.0 ? wide : wide * factor).backward();
  } catch (...) {
    forget_failed_micro_batch();
    throw;
  }
  anchor_.mutable_grad().reset();
  end_micro_batch(/*complete=*/true);
}

void Engine::Impl::take_gradients(zero3::Unit& unit, torch::autograd::variable_list gradients) {
  if (!gradients_) return;  // nothing is trainable
  took_gradients_ = true;
  gradients_->accumulate(unit, std::move(gradients));
}

void Engine::Impl::end_micro_batch(bool complete) {
  ++micro_steps_;
  mover_->end_micro_batch(complete);
  // The next micro-batch is the step's last one if it completes the accumulation.
  mover_->expect_step(micro_steps_ + 1 >= config_.gradient_accumulation_steps);
}

void Engine::Impl::skip_micro_batch() {
  prepare();
  check_room_for_micro_batch("skip_micro_batch()");
  end_micro_batch(/*complete=*/false);
}

void Engine::Impl::forget_failed_micro_batch() {
  anchor_.mutable_grad().reset();
  mover_->end_micro_batch(/*complete=*/false);
  if (!took_gradients_) return;
  if (micro_steps_ > 0) {
    log_.warning("micro-batch " + std::to_string(micro_steps_ + 1) +
                 " of the step failed in backward, after some of its gradients had been added; "
                 "the " +
                 std::to_string(micro_steps_) +
                 " before it are forgotten as well, and the step starts anew");
  }
  drop_step();
}

void Engine::Impl::zero_grad() {
  refuse_in_use("zero_grad()");
  drop_step();
}

void Engine::Impl::drop_step() {
  if (gradients_) gradients_->settle();
  forget_gradients();
  micro_steps_ = 0;
  if (mover_) mover_->expect_step(config_.gradient_accumulation_steps == 1);
}

/// A backward that is not the engine's leaves a gradient at the anchor (unit_function.cpp).
void Engine::Impl::note_other_backward() {
  if (!anchor_.grad().defined()) return;
  anchor_.mutable_grad().reset();
  if (std::exchange(told_of_other_backward_, true)) return;
  log_.warning(
      "a backward that was not this engine's went through its units: it gave inputs their "
      "gradients and parameters none; what is to train the parameters goes through "
      "Engine::backward (this is said once)");
}

// ---- step ------------------------------------------------------------------------------------

double Engine::Impl::base_lr() const { return lr_ ? *lr_ : schedule_.at(step_ + 1); }

void Engine::Impl::refuse_in_use(const std::string& what) const {
  const zero3::Unit* const unit = mover_ ? mover_->unit_in_use() : nullptr;
  if (unit == nullptr) return;
  throw UsageError(what + " was called while unit '" + unit->name() +
                   "' is in use, inside its run() or with_unsharded(); call it afterwards");
}

StepReport Engine::Impl::step(bool now) {
  if (micro_steps_ == 0) throw UsageError("step() without a backward() since the last step");
  refuse_in_use("step()");
  note_other_backward();
  StepReport report{.step = step_, .lr = base_lr(), .loss_scale = scaler_.scale()};
  if (micro_steps_ < config_.gradient_accumulation_steps && !now) return report;

  micro_steps_ = 0;
  mover_->expect_step(config_.gradient_accumulation_steps == 1);
  if (!gradients_) return report;
  gradients_->settle();
  if (!has_gradients()) return report;
  const std::optional<double> norm = gradient_norm();
  report.overflow = !norm;
  if (norm) update(report, *norm);
  forget_gradients();
  scaler_.update(report.overflow);
  mover_->begin_step();
  return report;
}

void Engine::Impl::update(StepReport& report, double norm) {
  report.grad_norm = norm;
  double scale = unscale();
  const double clip = config_.gradient_clipping;
  // As torch.nn.utils.clip_grad_norm_ limits it.
  if (clip > 0.0) scale *= std::min(1.0, clip / (norm + 1e-6));
  StepGroups groups(
      groups_.options(schedule_.with_momentum(config_.optimizer, step_ + 1), report.lr),
      static_cast<float>(scale));
  std::vector<optim_cpu::ShardStates> shards;
  for (const auto& unit : units_) {
    if (unit->gradient_empty) continue;
    for (zero3::FlatVector& vector : unit->vectors()) {
      if (!vector.trains()) continue;
      vector.states.segments = segments_of(*unit, vector, groups);
      shards.push_back(vector.states);
    }
  }
  mover_->release_staging();
  for (const auto& unit : units_) {
    if (unit->gradient_empty) continue;
    unit->weights_changed();
    mover_->change_weights(*unit);
  }
  take_step(shards, groups.groups());
  for (const auto& unit : units_) {
    for (zero3::TrainableParameter& parameter : unit->trainables()) {
      if (parameter.has_gradient) ++parameter.steps;
    }
  }
  report.step = ++step_;
  report.updated = true;
}

void Engine::Impl::take_step(const std::vector<optim_cpu::ShardStates>& shards,
                             std::span<const optim_cpu::UpdateGroup> groups) {
  pipeline_->begin(groups);
  for (const optim_cpu::ShardStates& shard : shards) {
    const bool taken = pipeline_->offer(shard);
    STRATA_CHECK(taken, "the optimizer has a place for every vector");
  }
  while (!pipeline_->finish()) mover_->make_room();
}

std::optional<double> Engine::Impl::gradient_norm() {
  optim_cpu::SumOfSquares squares;
  const zero3::Unit* not_finite = nullptr;
  for (const auto& unit : units_) {
    if (unit->gradient_empty) continue;
    const optim_cpu::SumOfSquares unit_squares = unit->gradient_squares();
    if (not_finite == nullptr && !unit_squares.finite()) not_finite = unit.get();
    squares.add(unit_squares);
  }
  squares = zero3::sum_over(ranks_, squares);
  if (squares.finite()) return std::sqrt(squares.value()) * unscale();
  log_.warning("step " + std::to_string(step_ + 1) + ": the gradient of " +
               (not_finite != nullptr ? "unit '" + not_finite->name() + "'"
                                      : std::string("a unit, on another rank,")) +
               " is not finite at loss scale " + std::to_string(scaler_.scale()) +
               "; the step is skipped");
  return std::nullopt;
}

std::vector<UnitNorm> Engine::Impl::gradient_norms() {
  std::vector<UnitNorm> norms;
  for (const auto& unit : units_) {
    if (unit->gradient_empty) continue;
    const optim_cpu::SumOfSquares squares = zero3::sum_over(ranks_, unit->gradient_squares());
    norms.push_back({unit->name(), std::sqrt(squares.value()) * unscale()});
  }
  return norms;
}

bool Engine::Impl::has_gradients() const {
  return std::any_of(units_.begin(), units_.end(),
                     [](const auto& unit) { return !unit->gradient_empty; });
}

void Engine::Impl::forget_gradients() {
  for (const auto& unit : units_) unit->forget_gradients();
}

}  // namespace strata
