#include "zero3/forecast/step_program.h"

#include <algorithm>
#include <utility>

namespace strata::zero3::forecast {

namespace {

// A step is written down in so many parts of vectors, more or less: enough for what is filled and
// emptied at the ends of a pipeline to be small, few enough for a thousand units in a second.
constexpr std::uint64_t kPartsOfStep = 24'000;
constexpr std::uint64_t kPartsMin = 4;
constexpr std::uint64_t kPartsMax = 256;

std::uint64_t parts_max_for(const StepWork& work) {
  const std::uint64_t passes =
      3 * work.uses.size() * (work.goes_unit_by_unit() ? 1 : work.micro_batches);
  return std::clamp(kPartsOfStep / std::max<std::uint64_t>(1, passes), kPartsMin, kPartsMax);
}

std::vector<std::size_t> first_uses(const StepWork& work, std::size_t units) {
  std::vector<std::size_t> first(units, work.uses.size());
  for (std::size_t use = work.uses.size(); use-- > 0;) first[work.uses[use].unit] = use;
  return first;
}

/// Units of the order's share, in the order of backward: one is taken where those so far are less.
std::vector<bool> early_units(const StepOrder& order, const StepWork& work,
                              const std::vector<std::size_t>& first_use,
                              const std::vector<UnitShape>& shapes) {
  std::vector<bool> is_early(shapes.size());
  if (order.kind == StepOrder::Kind::kSerial) return is_early;
  double seen = 0, taken = 0;
  for (std::size_t use = work.uses.size(); use-- > 0;) {
    const std::size_t unit = work.uses[use].unit;
    if (first_use[unit] != use) continue;
    double elements = 0;
    for (const VectorShape& vector : shapes[unit].vectors) {
      if (vector.trains) elements += static_cast<double>(vector.shard_elements);
    }
    seen += elements;
    is_early[unit] = taken < order.early_share * seen;
    if (is_early[unit]) taken += elements;
  }
  return is_early;
}

}  // namespace

StepProgram::StepProgram(const Plan& plan, const PlanInput& input, const StepWork& work,
                         const RankSpeeds& speeds, const StepOrder& order)
    : work_(work),
      order_(order),
      shapes_(unit_shapes(plan, input)),
      first_use_(first_uses(work, shapes_.size())),
      is_early_(early_units(order, work, first_use_, shapes_)),
      jobs_(input, speeds, parts_max_for(work)),
      weights_(plan, input, shapes_, jobs_, order.kind == StepOrder::Kind::kOverlapped),
      activations_(input, work, jobs_),
      gradients_(plan, input, shapes_, work.goes_unit_by_unit(), jobs_),
      windows_(plan, input, jobs_) {}

void StepProgram::add_step() {
  if (work_.goes_unit_by_unit()) {
    add_batch();
  } else {
    add_micro_batches();
  }
  weights_.expect_step(work_.micro_batches == 1);
  gradients_.settle();
  for (UnitId unit = 0; unit < shapes_.size(); ++unit) {
    if (gradients_.has_gradient(unit) && (!is_early_[unit] || behind_ == unit)) update(unit);
  }
  behind_.reset();
  gradients_.forget();
  if (order_.kind == StepOrder::Kind::kSerial) jobs_.wait_for(Hop::kFlush, updated_);
  weights_.begin_step();
  jobs_.mark();
}

void StepProgram::add_micro_batches() {
  for (std::uint64_t micro = 0; micro < work_.micro_batches; ++micro) {
    const bool is_last = micro + 1 == work_.micro_batches;
    weights_.expect_step(is_last);
    for (std::size_t use = 0; use < work_.uses.size(); ++use) {
      enter(use, Pass::kForward, work_.uses[use].forward, /*gives_gradients=*/false);
    }
    add_backward(work_.uses.size(), /*micro_batches=*/1, is_last);
    weights_.end_micro_batch();
  }
}

/// As SequencePass: the last use goes forward and backward in one entry.
void StepProgram::add_batch() {
  const auto all = static_cast<double>(work_.micro_batches);
  const std::size_t last = work_.uses.size() - 1;
  weights_.expect_step(true);
  for (std::size_t use = 0; use < last; ++use) {
    enter(use, Pass::kForward, all * work_.uses[use].forward, /*gives_gradients=*/false);
  }
  enter(last, Pass::kForward, all * (work_.uses[last].forward + backward_flop(last)),
        /*gives_gradients=*/true);
  update_early(last);
  add_backward(last, all, /*is_last=*/true);
  weights_.end_micro_batch();
}

void StepProgram::add_backward(std::size_t end, double micro_batches, bool is_last) {
  for (std::size_t use = end; use-- > 0;) {
    const UseSpan* const span = span_of(use);
    if (span != nullptr && span->end == use + 1) {
      for (std::size_t again = span->begin; again < span->end; ++again) {
        enter_again(again, micro_batches * work_.uses[again].recompute, again == span->begin);
      }
    }
    enter(use, Pass::kBackward, micro_batches * backward_flop(use), /*gives_gradients=*/true);
    if (is_last) update_early(use);
  }
}

const UseSpan* StepProgram::span_of(std::size_t use) const {
  const auto found = std::find_if(work_.spans.begin(), work_.spans.end(),
                                  [&](const UseSpan& span) { return use < span.end; });
  return found != work_.spans.end() && use >= found->begin ? &*found : nullptr;
}

void StepProgram::enter(std::size_t use, Pass pass, double flop, bool gives_gradients) {
  const auto unit = static_cast<UnitId>(work_.uses[use].unit);
  const UseSpan* const span = span_of(use);
  weights_.enter(unit, pass);
  const bool comes_back = pass == Pass::kBackward;
  const JobId brought = comes_back && span == nullptr ? activations_.bring(use) : kNoJob;
  const JobId computed = weights_.compute(unit, flop, brought);
  const bool input_is_kept = span == nullptr || span->begin == use;
  if (!comes_back && !gives_gradients && input_is_kept) activations_.put(use, computed);
  if (gives_gradients) gradients_.accumulate(unit, computed);
  weights_.leave(unit);
}

void StepProgram::enter_again(std::size_t use, double flop, bool begins_span) {
  const auto unit = static_cast<UnitId>(work_.uses[use].unit);
  weights_.enter(unit, Pass::kForward);
  weights_.compute(unit, flop, begins_span ? activations_.bring(use) : kNoJob);
  weights_.leave(unit);
}

double StepProgram::backward_flop(std::size_t use) const {
  const double recompute = span_of(use) == nullptr ? work_.uses[use].recompute : 0;
  return recompute + work_.uses[use].backward;
}

void StepProgram::update_early(std::size_t use) {
  const auto unit = static_cast<UnitId>(work_.uses[use].unit);
  if (!is_early_[unit] || first_use_[unit] != use) return;
  if (!gradients_.are_behind()) {
    gradients_.bring_home(unit);
    update(unit);
  } else if (const std::optional<UnitId> before = std::exchange(behind_, unit)) {
    gradients_.bring_home(*before);
    update(*before);
  }
}

void StepProgram::update(UnitId unit) {
  const UnitShape& shape = shapes_[unit];
  JobId last = kNoJob;
  for (std::size_t i = 0; i < shape.vectors.size(); ++i) {
    if (!shape.vectors[i].trains) continue;
    last = windows_.update(shape, shape.vectors[i], gradients_.whole(unit, i));
  }
  if (last == kNoJob) return;
  updated_ = last;
  const bool is_overlapped = order_.kind == StepOrder::Kind::kOverlapped;
  weights_.change(unit, last, is_overlapped && !is_early_[unit]);
}

}  // namespace strata::zero3::forecast
