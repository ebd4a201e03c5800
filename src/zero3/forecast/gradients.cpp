#include "zero3/forecast/gradients.h"

#include <algorithm>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "zero3/plan_facts.h"

namespace strata::zero3::forecast {

// As GradientCoordinator: half of the slots at most are for pieces, where homes need the others.
Gradients::Gradients(const Plan& plan, const PlanInput& input, const std::vector<UnitShape>& shapes,
                     bool are_sums, StepJobs& jobs)
    : plan_(plan),
      input_(input),
      shapes_(shapes),
      are_sums_(are_sums),
      goes_straight_(plan.bucket_bytes == 0),
      jobs_(jobs),
      buckets_(PlanFacts(input).buckets_in(plan)),
      leaving_max_(
          std::max<std::size_t>(1, plan.gradient_slots / (plan.gradients_on_nvme ? 2 : 1))) {
  for (const UnitShape& shape : shapes) {
    units_.push_back({.homes = std::vector<JobId>(shape.vectors.size(), kNoJob)});
  }
}

void Gradients::accumulate(UnitId unit, JobId computed) {
  while (!pieces_.empty()) add_oldest_piece();
  for (std::size_t i = 0; i < shapes_[unit].vectors.size(); ++i) {
    if (shapes_[unit].vectors[i].trains) accumulate(unit, i, computed);
  }
  units_[unit].is_empty = false;
}

void Gradients::accumulate(UnitId unit, std::size_t index, JobId computed) {
  finish(unit, index);
  const VectorShape& vector = shapes_[unit].vectors[index];
  const double width = width_of(vector);
  const std::uint64_t part = elements_at_once(unit, index);
  const std::uint64_t parts_max =
      std::max<std::uint64_t>(1, ceil_div(buckets_ * (plan_.slot_bytes / sizeof(float)), part));
  for (std::uint64_t begin = 0; begin < vector.reduced_elements; begin += part) {
    const std::uint64_t elements = std::min(part, vector.reduced_elements - begin);
    Piece piece{.unit = unit,
                .vector = index,
                .elements = elements,
                .is_first = units_[unit].is_empty,
                .bytes = static_cast<double>(elements) * width,
                .packed = computed};
    if (goes_straight_) {
      jobs_.count(Hop::kDrain, piece.bytes);
      piece.drained = computed;
      add_at_home(piece);
      continue;
    }
    // Packing is a copy within the accelerator's memory, which takes no lane.
    jobs_.count(Hop::kReduce, piece.bytes * input_.world_size);
    if (input_.world_size > 1) {
      piece.drained = jobs_.start(JobQueue::kExchange, Hop::kReduce, StepLane::kExchange,
                                  jobs_.from_others(piece.bytes * input_.world_size), {computed});
      jobs_.wait_for(Hop::kReduce, piece.drained);
      add_at_home(piece);
      if (input_.states_are_whole()) share_sums(piece);
      continue;
    }
    while (pieces_.size() >= parts_max) add_oldest_piece();
    pieces_.push_back(piece);
    drain_what_can();
  }
}

/// Every rank gets the sums of all.
void Gradients::share_sums(const Piece& piece) {
  const StateFormat& format = shapes_[piece.unit].vectors[piece.vector].format;
  const std::uint64_t of_all = piece.elements *
                               state_bytes(format, StateKind::kGradient, input_.accumulate_fp32) *
                               static_cast<std::uint64_t>(input_.world_size);
  JobId& home = units_[piece.unit].homes[piece.vector];
  home = jobs_.start(JobQueue::kExchange, Hop::kReduce, StepLane::kExchange,
                     jobs_.from_others(static_cast<double>(of_all)), {home});
  jobs_.wait_for(Hop::kReduce, home);
}

std::uint64_t Gradients::elements_at_once(UnitId unit, std::size_t index) const {
  const VectorShape& vector = shapes_[unit].vectors[index];
  if (!goes_straight_) {
    return jobs_.part_of(vector.reduced_elements, plan_.slot_bytes / sizeof(float));
  }
  if (!shapes_[unit].gradient_on_nvme) return vector.shard_elements;
  return jobs_.part_of(
      vector.shard_elements,
      plan_.slot_bytes / state_bytes(vector.format, StateKind::kGradient, input_.accumulate_fp32));
}

/// Lets the first pieces leave the device, as many as have slots.
void Gradients::drain_what_can() {
  std::size_t leaving = 0;
  for (Piece& piece : pieces_) {
    if (leaving == leaving_max_ || leaving + writing_.size() == plan_.gradient_slots) return;
    ++leaving;
    if (!piece.is_leaving) drain(piece);
  }
}

void Gradients::drain(Piece& piece) {
  piece.is_leaving = true;
  piece.drained =
      jobs_.start(JobQueue::kDrain, Hop::kDrain, StepLane::kDrain, piece.bytes, {piece.packed});
}

double Gradients::width_of(const VectorShape& vector) const {
  return static_cast<double>(weight_bytes(are_sums_ ? Precision::kFp32 : vector.format.precision));
}

void Gradients::finish(UnitId unit, std::size_t vector) {
  const auto is_of_vector = [&](const auto& part) {
    return part.unit == unit && part.vector == vector;
  };
  while (std::ranges::any_of(pieces_, is_of_vector)) add_oldest_piece();
  while (std::ranges::any_of(writing_, is_of_vector)) wait_for_oldest_write();
}

void Gradients::add_oldest_piece() {
  if (!pieces_.front().is_leaving) {
    while (writing_.size() >= plan_.gradient_slots) wait_for_oldest_write();
    drain(pieces_.front());
  }
  const Piece piece = pieces_.front();
  jobs_.wait_for(Hop::kDrain, piece.drained);
  add_at_home(piece);
  pieces_.pop_front();
  drain_what_can();
}

void Gradients::add_at_home(const Piece& piece) {
  const UnitShape& shape = shapes_[piece.unit];
  const StateFormat& format = shape.vectors[piece.vector].format;
  const auto elements = static_cast<double>(piece.elements);
  const double at_home = elements * static_cast<double>(state_bytes(format, StateKind::kGradient,
                                                                    input_.accumulate_fp32));
  const double arrived =
      elements * width_of(shape.vectors[piece.vector]) * static_cast<double>(input_.world_size);
  if (shape.gradient_on_nvme) make_slot_for_home();
  if (shape.gradient_on_nvme && !piece.is_first) {
    const JobId read = jobs_.start(JobQueue::kGradientRead, Hop::kFetch, StepLane::kDiskRead,
                                   at_home, {units_[piece.unit].homes[piece.vector]});
    jobs_.wait_for(Hop::kFetch, read);
    check(Hop::kFetch, at_home, read);
  }
  JobId& home = units_[piece.unit].homes[piece.vector];
  const Hop hop = input_.world_size > 1 ? Hop::kReduce : Hop::kDrain;
  home = jobs_.add_gradient(hop, arrived + at_home * (piece.is_first ? 1 : 2), {piece.drained});
  jobs_.wait_for(hop, home);
  if (!shape.gradient_on_nvme) return;
  const JobId added = home;
  home = jobs_.start(JobQueue::kGradientWrite, Hop::kFlush, StepLane::kDiskWrite, at_home, {added});
  writing_.push_back({piece.unit, piece.vector, home});
  check(Hop::kFlush, at_home, added);
}

/// The program makes the checksum of what has come or is on its way.
void Gradients::check(Hop hop, double bytes, JobId after) {
  if (!jobs_.checks()) return;
  jobs_.wait_for(hop, jobs_.start(JobQueue::kProgramCheck, hop, StepLane::kCheck, bytes, {after}));
}

/// A piece that leaves and a home on its way to the disk have a slot each.
void Gradients::make_slot_for_home() {
  const auto leaving =
      static_cast<std::size_t>(std::ranges::count(pieces_, true, &Piece::is_leaving));
  while (leaving + writing_.size() >= plan_.gradient_slots) wait_for_oldest_write();
}

void Gradients::wait_for_oldest_write() {
  jobs_.wait_for(Hop::kFlush, writing_.front().written);
  writing_.pop_front();
}

void Gradients::bring_home(UnitId unit) {
  for (std::size_t i = 0; i < shapes_[unit].vectors.size(); ++i) finish(unit, i);
}

void Gradients::settle() {
  while (!pieces_.empty()) add_oldest_piece();
  while (!writing_.empty()) wait_for_oldest_write();
}

void Gradients::forget() {
  for (Unit& unit : units_) unit.is_empty = true;
}

}  // namespace strata::zero3::forecast
