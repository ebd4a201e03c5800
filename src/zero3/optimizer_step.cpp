#include "zero3/optimizer_step.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <span>
#include <sstream>
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
  if (config.strata.nonfinite == formats::NonfinitePolicy::kSkip) {
    throw ConfigError(what +
                      "strata.nonfinite = \"skip\" leaves out steps in which one of all is not "
                      "finite; leave one of the two out");
  }
}

/// Throws ConfigError for fp16 whose steps must not be skipped.
void refuse_fp16_without_skipping(const formats::DsConfig& config) {
  if (config.precision() != Precision::kFp16 || config.skips_nonfinite()) return;
  throw ConfigError(config.name +
                    ": fp16 finds its loss scale by steps that it skips, and strata.nonfinite = "
                    "\"error\" lets none be skipped; leave it out, or train in bf16 or fp32");
}

/// A value that is not finite, and its place among `values`; empty where there is none.
std::string nonfinite_in(const torch::Tensor& values) {
  const std::span numbers(values.const_data_ptr<float>(), static_cast<std::size_t>(values.numel()));
  const auto found = std::ranges::find_if_not(numbers, [](float v) { return std::isfinite(v); });
  if (found == numbers.end()) return {};
  std::ostringstream text;
  text << *found << " at element " << found - numbers.begin();
  return text.str();
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
  refuse_fp16_without_skipping(parts.config);
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
  for (const auto& unit : parts_.units.all()) {
    if (!unit->gradient_empty) squares.add(unit->gradient_squares());
  }
  squares = sum_over(parts_.ranks, squares);
  if (!squares.finite()) return std::nullopt;
  return std::sqrt(squares.value()) * unscale();
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
  if (!sum_over(parts_.ranks, unit.gradient_squares()).finite()) throw NonfiniteGradient();
  if (!parts_.machinery.step_thread()->is_open()) begin(lr, unscale());
  submit(unit);
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

// ---- gradients that are not finite -------------------------------------------------------------

void OptimizerStep::skip() {
  if (!parts_.config.skips_nonfinite()) refuse();
  const auto& units = parts_.units.all();
  const auto found = std::ranges::find_if(units, [](const auto& unit) {
    return !unit->gradient_empty && !unit->gradient_squares().finite();
  });
  parts_.log.warning("step " + std::to_string(parts_.state.step + 1) + ": the gradient of " +
                     (found != units.end() ? "unit '" + (*found)->name() + "'"
                                           : std::string("a unit, on another rank,")) +
                     " is not finite at loss scale " + std::to_string(parts_.state.scaler.scale()) +
                     "; the step is skipped");
}

void OptimizerStep::refuse() {
  std::string message = "step " + std::to_string(parts_.state.step + 1) + ": ";
  message += first_nonfinite();
  const std::string updated = units_updated();
  if (updated.empty()) {
    message +=
        "; nothing of the step was applied. Look for data, a learning rate or a loss that is out "
        "of range";
    if (!parts_.config.strata.step_under_backward) {
      message += "; strata.nonfinite = \"skip\" leaves such steps out";
    }
  } else {
    message += "; of the step, " + updated +
               " had been updated under backward, the others not, so that the states are those of "
               "half a step: make a new engine, from the last checkpoint. With "
               "strata.step_under_backward off, nothing of such a step is applied";
  }
  forget_gradients();
  give_up();
  throw DataError(message);
}

void OptimizerStep::check_gradients_for_checkpoint() {
  if (parts_.config.skips_nonfinite() || gradient_norm()) return;
  throw DataError("save_checkpoint() in step " + std::to_string(parts_.state.step + 1) + ": " +
                  first_nonfinite() + "; nothing can be trained from that (zero_grad() drops it)");
}

/// Words for the first gradient that is not finite, in the order of units; the same on all ranks.
std::string OptimizerStep::first_nonfinite() {
  StateAccess& states = parts_.editor.at_rest("step()");
  for (const auto& unit : parts_.units.all()) {
    if (unit->gradient_empty || sum_over(parts_.ranks, unit->gradient_squares()).finite()) continue;
    std::string found;
    states.read_gradients(*unit, [&](std::size_t parameter, const torch::Tensor& values) {
      const std::string value = found.empty() ? nonfinite_in(values) : std::string();
      if (value.empty()) return;
      const UnitLayout& layout = unit->layout();
      found = "the gradient of parameter '" + layout.full_name(layout.parameters[parameter]) +
              "' holds " + value;
    });
    // A sum of micro-batches may have left the range and come back.
    return found.empty() ? "the gradient of unit '" + unit->name() + "' is not finite" : found;
  }
  return "a gradient is not finite";
}

/// The units that were updated early, in words; empty where none was.
std::string OptimizerStep::units_updated() const {
  if (!parts_.machinery.step_thread()->is_open()) return {};
  std::string names;
  for (const auto& unit : parts_.units.all()) {
    if (is_submitted_[unit->id()]) names += (names.empty() ? "'" : ", '") + unit->name() + "'";
  }
  return names;
}

}  // namespace strata::zero3
