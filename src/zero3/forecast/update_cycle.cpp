#include "zero3/forecast/update_cycle.h"

#include <algorithm>

namespace strata::zero3::forecast {

namespace {

using tiering::Tier;

/// Seconds of each lane between the gradients of some units and the next use of their weights.
struct UpdateSeconds {
  double states = 0;     ///< reading them
  double gradients = 0;  ///< reading those that rest on the disk
  double bringing = 0;   ///< writing them there
  double writing = 0;    ///< the states
  double update = 0, drain = 0, reduce = 0;
  double weights = 0;  ///< reading them back
  double upload = 0, gather = 0;

  void add(const UpdateSeconds& other) {
    states += other.states;
    gradients += other.gradients;
    bringing += other.bringing;
    writing += other.writing;
    update += other.update;
    drain += other.drain;
    reduce += other.reduce;
    weights += other.weights;
    upload += other.upload;
    gather += other.gather;
  }
};

/// What is not moved takes no time, also on a lane without speed.
double over(double amount, double speed) { return amount > 0 ? amount / speed : 0; }

double flop_of(const UnitUse& use) { return use.forward + use.recompute + use.backward; }

class UpdateCycle {
 public:
  /// `updating`: seconds of a step in which gradients are added and states updated.
  UpdateCycle(const Plan& plan, const PlanInput& input, const std::vector<UnitShape>& shapes,
              const StepWork& work, const RankSpeeds& speeds, double updating)
      : input_(input), shapes_(shapes), work_(work), speeds_(speeds), updating_(updating) {
    double widest = 0;
    for (const UnitShape& shape : shapes) {
      for (const VectorShape& vector : shape.vectors) {
        widest = std::max(widest, state_bytes_of(input, shape, vector.format).of_disk);
      }
    }
    ahead_ =
        over(widest * static_cast<double>(plan.windows * plan.window_elements), speeds.disk_read);
  }

  /// Each unit's update waits for its own gradient.
  [[nodiscard]] double longest() const {
    const double at_turn = micro_batches_at_turn();
    const double whole = computing();
    double longest = 0;
    double before = 0;  // computed by the uses before
    UpdateSeconds all;  // of all units up to here
    std::vector<bool> is_seen(shapes_.size());
    for (const UnitUse& use : work_.uses) {
      if (!is_seen[use.unit]) {
        is_seen[use.unit] = true;
        const UpdateSeconds own = update_of(shapes_[use.unit]);
        all.add(own);
        longest = std::max({longest, whole - before + one_after_the_other(own, before),
                            whole - before + side_by_side(all, before)});
      }
      before += over(at_turn * flop_of(use), speeds_.compute);
    }
    return longest;
  }

  /// Every update waits for all gradients.
  [[nodiscard]] double longest_behind_all() const {
    const double at_turn = micro_batches_at_turn();
    double whole = computing();
    if (speeds_.shares_cores) whole += adding();
    double longest = 0;
    double before = 0;  // computed in forward by the uses before
    UpdateSeconds all;  // of all units up to here
    std::vector<bool> is_seen(shapes_.size());
    for (const UnitUse& use : work_.uses) {
      if (!is_seen[use.unit]) {
        is_seen[use.unit] = true;
        UpdateSeconds own = update_of(shapes_[use.unit]);
        own.bringing = own.drain = own.reduce = 0;  // over when backward is, but for one unit's
        all.add(own);
        longest = std::max(longest, whole - before + side_by_side(all, before));
      }
      before += over(at_turn * use.forward, speeds_.compute);
    }
    return longest;
  }

 private:
  /// Micro-batches that a unit computes before the next unit does.
  [[nodiscard]] double micro_batches_at_turn() const {
    return work_.goes_unit_by_unit() ? static_cast<double>(work_.micro_batches) : 1;
  }

  [[nodiscard]] double computing() const {
    double whole = 0;
    for (const UnitUse& use : work_.uses) whole += over(flop_of(use), speeds_.compute);
    return static_cast<double>(work_.micro_batches) * whole;
  }

  /// What is added before the updates begin.
  [[nodiscard]] double adding() const {
    double updates = 0;
    for (const UnitShape& shape : shapes_) updates += update_of(shape).update;
    return std::max(0.0, updating_ - updates);
  }

  /// Of one unit: its states are at rest before its weights set out for the device.
  [[nodiscard]] double one_after_the_other(const UpdateSeconds& of, double before) const {
    UpdateSeconds update = of;
    update.weights = update.upload = update.gather = 0;
    return std::max(before, side_by_side(update, 0) + std::max(of.weights, of.upload) + of.gather);
  }

  /// Of several units: each lane does its part of all of them.
  [[nodiscard]] double side_by_side(const UpdateSeconds& of, double before) const {
    const double reading = std::max(0.0, of.states - ahead_) + of.gradients + of.weights;
    const double overlap = std::max(0.0, speeds_.disk_overlap);
    const double writing = of.writing + of.bringing;
    const double disk = std::max(reading, writing) + (1 - overlap) * std::min(reading, writing);
    const double update = of.update + (speeds_.shares_cores ? before : 0);
    return std::max({before, disk, update, of.drain, of.upload, of.reduce + of.gather});
  }

  [[nodiscard]] UpdateSeconds update_of(const UnitShape& shape) const {
    const bool on_disk =
        input_.parameter_tier == Tier::kNvme && !shape.cached.has(StateKind::kWeight);
    // There an update may give its weights to the region that waits for them, and gradients are
    // added to their home from where they are.
    const bool into_regions = input_.device_memory_is_host && input_.states_are_whole();
    const double others = 1 - 1.0 / input_.world_size;
    UpdateSeconds seconds;
    for (const VectorShape& vector : shape.vectors) {
      if (!vector.trains) continue;
      const auto elements = static_cast<double>(vector.shard_elements);
      const auto weight = static_cast<double>(vector.shard_bytes());
      const StateBytes states = state_bytes_of(input_, shape, vector.format);
      const auto gradient =
          elements * static_cast<double>(
                         state_bytes(vector.format, StateKind::kGradient, input_.accumulate_fp32));
      seconds.states += over(elements * states.of_disk, speeds_.disk_read);
      seconds.writing += over(elements * states.of_disk, speeds_.disk_write);
      seconds.update += over(elements * 2 * states.in_all + gradient, speeds_.update);
      if (shape.gradient_on_nvme) {
        seconds.gradients += over(gradient, speeds_.disk_read);
        seconds.bringing += over(gradient, speeds_.disk_write);
      }
      if (input_.world_size == 1) {
        if (!into_regions) seconds.drain += over(weight, speeds_.drain);
      } else {
        const auto all = static_cast<double>(vector.gathered_bytes);
        seconds.reduce += over(all * others, speeds_.exchange);
        if (input_.states_are_whole()) {
          seconds.reduce += over(gradient * others, speeds_.exchange);
        } else {
          seconds.gather += over(all * others, speeds_.exchange);
        }
      }
      if (on_disk && !into_regions) seconds.weights += over(weight, speeds_.disk_read);
      if ((on_disk && !into_regions) || (!on_disk && input_.parameter_tier != Tier::kDevice)) {
        seconds.upload += over(weight, speeds_.upload);
      }
    }
    return seconds;
  }

  const PlanInput& input_;
  const std::vector<UnitShape>& shapes_;
  const StepWork& work_;
  const RankSpeeds& speeds_;
  const double updating_;
  double ahead_ = 0;  ///< of reading: the states that windows hold before their gradients come
};

}  // namespace

double update_cycle(const Plan& plan, const PlanInput& input, const std::vector<UnitShape>& shapes,
                    const StepWork& work, const RankSpeeds& speeds, const StepOrder& order,
                    double updating) {
  const UpdateCycle cycle(plan, input, shapes, work, speeds, updating);
  if (order.early_share > 0 && order.kind == StepOrder::Kind::kOverlapped) return cycle.longest();
  return std::max(cycle.longest(), cycle.longest_behind_all());
}

}  // namespace strata::zero3::forecast
