#include "zero3/optimizer_step.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <string>
#include <utility>

#include "strata/base/error.h"
#include "zero3/reduction.h"

namespace strata::zero3 {

namespace {

/// The segments of this rank's shard and their groups, in order; padding goes with the parameter
/// before it.
std::vector<optim_cpu::Segment> segments_of(const Unit& unit, const FlatVector& vector,
                                            const StepGroups& groups) {
  std::vector<optim_cpu::Segment> segments;  // segments of the whole vector
  for (const TrainableParameter& parameter : unit.trainables()) {
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

/// Throws ConfigError for what can only be done once the gradients of all units are known.
void refuse_what_needs_all_gradients(const formats::DsConfig& config) {
  const std::string what = config.name +
                           ": strata.step_under_backward updates a unit before the gradients of "
                           "others are known, and ";
  if (config.gradient_clipping > 0.0) {
    throw ConfigError(what +
                      "gradient_clipping needs the norm of all; leave one of them out, or set "
                      "gradient_clipping to 0");
  }
  if (config.precision() == Precision::kFp16) {
    throw ConfigError(what +
                      "fp16 skips steps in which one of all is not finite; leave it out, or train "
                      "in bf16 or fp32");
  }
}

}  // namespace

StepGroups::StepGroups(std::vector<optim::OptimizerOptions> options, float gradient_scale)
    : options_(std::move(options)), gradient_scale_(gradient_scale) {}

void StepGroups::add(const TrainableParameter& parameter) {
  const std::int64_t step = parameter.steps + 1;
  const auto [place, is_new] =
      indices_.try_emplace({parameter.group, step}, static_cast<std::uint32_t>(groups_.size()));
  if (!is_new) return;
  groups_.push_back({options_[parameter.group], {.step = step, .gradient_scale = gradient_scale_}});
}

std::uint32_t StepGroups::index_of(const TrainableParameter& parameter) const {
  if (!parameter.has_gradient) return optim_cpu::kNotUpdated;
  return indices_.at({parameter.group, parameter.steps + 1});
}

OptimizerStep::OptimizerStep(const Parts& parts)
    : parts_(parts), schedule_(parts.config.scheduler, parts.config.optimizer.lr) {
  if (parts.config.strata.step_under_backward) refuse_what_needs_all_gradients(parts.config);
}

double OptimizerStep::base_lr() const {
  const auto set = parts_.state.rates.find("");
  return set != parts_.state.rates.end() ? set->second : schedule_.at(parts_.state.step + 1);
}

double OptimizerStep::unscale() const {
  return 1.0 / (parts_.state.scaler.scale() * parts_.ranks.size());
}

// ---- gradients ---------------------------------------------------------------------------------

bool OptimizerStep::has_gradients() const {
  const auto& units = parts_.units.all();
  return std::any_of(units.begin(), units.end(),
                     [](const auto& unit) { return !unit->gradient_empty; });
}

std::optional<double> OptimizerStep::gradient_norm() {
  optim_cpu::SumOfSquares squares;
  const Unit* not_finite = nullptr;
  for (const auto& unit : parts_.units.all()) {
    if (unit->gradient_empty) continue;
    const optim_cpu::SumOfSquares unit_squares = unit->gradient_squares();
    if (not_finite == nullptr && !unit_squares.finite()) not_finite = unit.get();
    squares.add(unit_squares);
  }
  squares = sum_over(parts_.ranks, squares);
  if (squares.finite()) return std::sqrt(squares.value()) * unscale();
  parts_.log.warning("step " + std::to_string(parts_.state.step + 1) + ": the gradient of " +
                     (not_finite != nullptr ? "unit '" + not_finite->name() + "'"
                                            : std::string("a unit, on another rank,")) +
                     " is not finite at loss scale " + std::to_string(parts_.state.scaler.scale()) +
                     "; the step is skipped");
  return std::nullopt;
}

std::vector<UnitNorm> OptimizerStep::gradient_norms() {
  std::vector<UnitNorm> norms;
  for (const auto& unit : parts_.units.all()) {
    if (unit->gradient_empty) continue;
    const optim_cpu::SumOfSquares squares = sum_over(parts_.ranks, unit->gradient_squares());
    norms.push_back({unit->name(), std::sqrt(squares.value()) * unscale()});
  }
  return norms;
}

void OptimizerStep::forget_gradients() {
  for (const auto& unit : parts_.units.all()) unit->forget_gradients();
}

// ---- update ------------------------------------------------------------------------------------

void OptimizerStep::begin(double lr, double scale) {
  StepThread& thread = *parts_.machinery.step_thread();
  thread.wait();
  const formats::OptimizerConfig optimizer =
      schedule_.with_momentum(parts_.config.optimizer, parts_.state.step + 1);
  groups_.emplace(parts_.groups.options(optimizer, lr, parts_.state.rates),
                  static_cast<float>(scale));
  for (const auto& unit : parts_.units.all()) {
    for (const TrainableParameter& parameter : unit->trainables()) groups_->add(parameter);
  }
  is_submitted_.assign(parts_.units.all().size(), false);
  thread.begin(groups_->groups());
}

void OptimizerStep::submit(Unit& unit) {
  is_submitted_[unit.id()] = true;
  parts_.machinery.mover().change_weights(unit);
  std::vector<UnitUpdate> updates;
  for (FlatVector& vector : unit.vectors()) {
    if (!vector.trains()) continue;
    vector.states.segments = segments_of(unit, vector, *groups_);
    updates.push_back({unit.id(), &vector.states});
  }
  parts_.machinery.step_thread()->submit(updates);
}

void OptimizerStep::update(double norm, double lr) {
  behind_ = nullptr;
  StepThread& thread = *parts_.machinery.step_thread();
  if (!thread.is_open()) {
    double scale = unscale();
    const double clip = parts_.config.gradient_clipping;
    // Limits it as torch.nn.utils.clip_grad_norm_ does.
    if (clip > 0.0) scale *= std::min(1.0, clip / (norm + 1e-6));
    begin(lr, scale);
  }
  for (const auto& unit : parts_.units.all()) {  // in the order in which forward enters the units
    if (!unit->gradient_empty && !is_submitted_[unit->id()]) submit(*unit);
  }
  thread.close();
  if (!parts_.machinery.plan()->overlaps_step) thread.wait();
  for (const auto& unit : parts_.units.all()) {
    for (TrainableParameter& parameter : unit->trainables()) {
      if (parameter.has_gradient) ++parameter.steps;
    }
  }
}

// ---- under backward ----------------------------------------------------------------------------

bool OptimizerStep::updates_early() const {
  return parts_.config.strata.step_under_backward && parts_.machinery.plan()->overlaps_step;
}

void OptimizerStep::update_early(Unit& unit, double lr) {
  if (unit.gradient_empty) return;
  const bool is_behind = parts_.machinery.gradients()->are_behind();
  if (Unit* const complete = is_behind ? std::exchange(behind_, &unit) : &unit) {
    submit_early(*complete, lr);
  }
}

void OptimizerStep::submit_early(Unit& unit, double lr) {
  parts_.machinery.gradients()->bring_home(unit);
  if (!sum_over(parts_.ranks, unit.gradient_squares()).finite()) {
    throw DataError("step " + std::to_string(parts_.state.step + 1) + ": the gradient of unit '" +
                    unit.name() + "' is not finite");
  }
  if (!parts_.machinery.step_thread()->is_open()) begin(lr, unscale());
  submit(unit);
}

void OptimizerStep::skip() {
  behind_ = nullptr;
  if (!parts_.machinery.step_thread()->is_open()) return;
  give_up();
  throw DataError("step " + std::to_string(parts_.state.step + 1) +
                  ": a gradient is not finite, and units have been updated under backward already");
}

void OptimizerStep::give_up() {
  behind_ = nullptr;
  StepThread* const thread = parts_.machinery.step_thread();
  if (thread == nullptr || !thread->is_open()) return;
  thread->fail(std::make_exception_ptr(UsageError(
      "a batch failed after some of its units had been updated under backward, so that the states "
      "are those of half a step; make a new engine. With strata.step_under_backward off, a batch "
      "that fails leaves nothing")));
}

}  // namespace strata::zero3
