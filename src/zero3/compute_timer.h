#pragma once

#include <string_view>
#include <utility>

#include "strata/base/counters.h"

namespace strata::zero3 {

/// Counts the time in which LibTorch computes for units (hop 4): forward of their bodies and its
/// gradient. A body may enter other units and a gradient may go through them, so the timer stands
/// while the engine works for one inside of another. Thread: the engine's.
class ComputeTimer {
 public:
  explicit ComputeTimer(Counters& counters) : counters_(counters) {}

  /// What is computed: for recordings. The name outlives the scope.
  struct Work {
    std::string_view unit = {};
    MemoryRange weights = {};
  };

  /// Whether it runs, and for what.
  struct State {
    bool runs = false;
    Work work = {};
  };

  /// Lets the timer run, or stand, for the length of a scope.
  class Scope {
   public:
    Scope(ComputeTimer& timer, bool runs, const Work& work)
        : timer_(timer), before_(timer.turn({runs, work})) {}
    ~Scope() { timer_.turn(before_); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    ComputeTimer& timer_;
    State before_;
  };
  [[nodiscard]] Scope runs(const Work& work) { return {*this, true, work}; }
  [[nodiscard]] Scope stands() { return {*this, false, {}}; }

 private:
  /// Returns the state before.
  State turn(const State& state) {
    const Time now = counters_.clock().now();
    if (state_.runs) end_span(now);
    since_ = now;
    return std::exchange(state_, state);
  }

  void end_span(Time now) {
    counters_.add_busy(Hop::kCompute, now - since_);
    Timeline* const timeline = counters_.timeline();
    if (timeline == nullptr) return;
    timeline->add({.kind = SpanKind::kBusy,
                   .hop = Hop::kCompute,
                   .name = state_.work.unit,
                   .begin = since_,
                   .end = now,
                   .reads = {&state_.work.weights, 1}});
  }

  Counters& counters_;
  State state_;
  Time since_;
};

}  // namespace strata::zero3
