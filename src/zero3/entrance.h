#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "strata/base/counters.h"
#include "strata/zero3/sharding.h"
#include "zero3/anchor.h"
#include "zero3/compute_timer.h"
#include "zero3/entry.h"
#include "zero3/gradient_sum.h"
#include "zero3/machinery.h"
#include "zero3/state_editor.h"
#include "zero3/unit.h"

namespace strata::zero3 {

/// The units that a span of forward entered, with the versions of their weights: it ran without
/// gradients, and will be run again for backward.
class SpanEntries {
 public:
  void add(const UnitHandle& unit);
  /// Throws UsageError where the weights of one of them have changed since.
  void refuse_changed_weights() const;

 private:
  std::vector<std::pair<UnitHandle, std::uint64_t>> entries_;
};

/// The door between units and their engine: a unit enters, leaves, and hands over its parameters'
/// gradients. Thread: the engine's.
class Entrance {
 public:
  /// `threads` add gradients on the CPU.
  Entrance(Machinery& machinery, StateEditor& editor, optim_cpu::ComputeThreads& threads,
           Counters& counters)
      : machinery_(machinery), editor_(editor), sum_(threads), compute_timer_(counters) {}

  /// Calls `hook` whenever a unit is about to enter; an exception from it keeps the unit out.
  void before_each_unit(std::function<void()> hook) { hook_ = std::move(hook); }

  // ---- for units ----
  /// Begins an entry or its backward, before anything of it is done: makes the plan and takes
  /// memory at the first one of all, and calls the hook. Throws what the hook and
  /// Machinery::prepare throw; UsageError inside a visitor of states.
  void announce();
  /// Makes the parameters of an announced unit readable. Throws what UnitMover::enter and
  /// StateEditor::take_over_changes throw; UsageError where parameters were changed behind the
  /// engine's back. The unit is not in use then.
  void enter(Unit& unit, Pass pass, View view);
  /// Gives the unit back, once for every `enter`.
  void leave(Unit& unit);
  /// Takes the gradients of a unit in use to their home: one for each trainable parameter,
  /// undefined where there is none. Throws what GradientCoordinator::accumulate throws.
  void take_gradients(Unit& unit, torch::autograd::variable_list gradients);

  /// The purpose of an entry without gradients: an evaluation's, or a training step's in a span;
  /// where passes are expected, what the engine is there for.
  [[nodiscard]] View view_without_gradients() const noexcept {
    const bool evaluates = span_ == nullptr && !machinery_.expects_passes();
    return evaluates ? View::kEvaluating : View::kTraining;
  }
  /// Tells that a unit was entered without gradients.
  void note_entry(const UnitHandle& unit) {
    if (span_ != nullptr) span_->add(unit);
  }

  // ---- for spans ----
  /// Notes entries without gradients in `entries`, for the length of a scope.
  class SpanScope {
   public:
    SpanScope(Entrance& entrance, SpanEntries& entries)
        : entrance_(entrance), before_(std::exchange(entrance.span_, &entries)) {}
    ~SpanScope() { entrance_.span_ = before_; }
    SpanScope(const SpanScope&) = delete;
    SpanScope& operator=(const SpanScope&) = delete;

   private:
    Entrance& entrance_;
    SpanEntries* before_;
  };

  // ---- for what runs a sequence of units ----
  /// Enters a unit until `let_go`. Its entries meanwhile find it readable, and are one use to the
  /// schedule; the gradients that it hands over are added up on the device (GradientSum). One unit
  /// is held at a time. Throws what `enter` throws.
  void hold(Unit& unit, Pass pass);
  /// Sends the sums of the held unit's gradients home. Throws what GradientCoordinator::accumulate
  /// throws.
  void bring_gradients();
  /// Leaves the held unit, and drops sums that were not sent home.
  void let_go();

  /// Room for what units keep between forward and backward; null: there is none.
  [[nodiscard]] Activations* activations() const noexcept { return machinery_.activations(); }

  /// The ranks that all enter the same units.
  [[nodiscard]] Ranks& ranks() const noexcept { return machinery_.ranks(); }

  /// The anchor of units' graphs and the timer of their bodies, lent to units.
  [[nodiscard]] Anchor& anchor() noexcept { return anchor_; }
  [[nodiscard]] ComputeTimer& compute_timer() noexcept { return compute_timer_; }

 private:
  Machinery& machinery_;
  StateEditor& editor_;
  std::function<void()> hook_;
  Unit* held_ = nullptr;
  SpanEntries* span_ = nullptr;
  GradientSum sum_;  // of the held unit
  Anchor anchor_;
  ComputeTimer compute_timer_;
};

/// The unit's computation, as the timer sees it.
[[nodiscard]] inline ComputeTimer::Work work_of(const Unit& unit) {
  return {unit.name(), {unit.region().address(), unit.region().bytes()}};
}

/// Keeps a unit entered for the length of a scope.
class EnteredScope {
 public:
  EnteredScope(Unit& unit, Pass pass, View view) : unit_(unit) {
    unit.entrance().enter(unit, pass, view);
  }
  ~EnteredScope() { unit_.entrance().leave(unit_); }
  EnteredScope(const EnteredScope&) = delete;
  EnteredScope& operator=(const EnteredScope&) = delete;

 private:
  Unit& unit_;
};

/// Holds a unit for the length of a scope.
class HeldScope {
 public:
  HeldScope(Unit& unit, Pass pass) : entrance_(unit.entrance()) { entrance_.hold(unit, pass); }
  ~HeldScope() { entrance_.let_go(); }
  HeldScope(const HeldScope&) = delete;
  HeldScope& operator=(const HeldScope&) = delete;

  void bring_gradients() { entrance_.bring_gradients(); }

 private:
  Entrance& entrance_;
};

}  // namespace strata::zero3
