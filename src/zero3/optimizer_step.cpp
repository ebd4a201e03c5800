#include "zero3/optimizer_step.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>

#include "strata/base/error.h"
#include "zero3/reduction.h"

namespace strata::zero3 {

namespace {

/// The optimizer's groups of one step: hyperparameters and a count of steps, each pair once.
class StepGroups {
 public:
  StepGroups(std::vector<optim::OptimizerOptions> options, float gradient_scale)
      : options_(std::move(options)), gradient_scale_(gradient_scale) {}

  std::uint32_t index_of(const TrainableParameter& parameter) {
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

/// The segments of this rank's shard and their groups, in order; padding goes with the parameter
/// before it.
std::vector<optim_cpu::Segment> segments_of(const Unit& unit, const FlatVector& vector,
                                            StepGroups& groups) {
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

}  // namespace

OptimizerStep::OptimizerStep(const Parts& parts)
    : parts_(parts), schedule_(parts.config.scheduler, parts.config.optimizer.lr) {}

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

void OptimizerStep::update(double norm, double lr) {
  StepThread& thread = *parts_.machinery.step_thread();
  thread.wait();
  double scale = unscale();
  const double clip = parts_.config.gradient_clipping;
  // Limits it as torch.nn.utils.clip_grad_norm_ does.
  if (clip > 0.0) scale *= std::min(1.0, clip / (norm + 1e-6));
  const formats::OptimizerConfig optimizer =
      schedule_.with_momentum(parts_.config.optimizer, parts_.state.step + 1);
  StepGroups groups(parts_.groups.options(optimizer, lr, parts_.state.rates),
                    static_cast<float>(scale));
  std::vector<UnitUpdate> updates;  // in the order in which forward enters the units
  for (const auto& unit : parts_.units.all()) {
    if (unit->gradient_empty) continue;
    parts_.machinery.mover().change_weights(*unit);
    for (FlatVector& vector : unit->vectors()) {
      if (!vector.trains()) continue;
      vector.states.segments = segments_of(*unit, vector, groups);
      updates.push_back({unit->id(), &vector.states});
    }
  }
  thread.begin(groups.groups(), updates);
  if (!parts_.machinery.plan()->overlaps_step) thread.wait();
  for (const auto& unit : parts_.units.all()) {
    for (TrainableParameter& parameter : unit->trainables()) {
      if (parameter.has_gradient) ++parameter.steps;
    }
  }
}

}  // namespace strata::zero3
