#pragma once

#include <utility>

#include "strata/base/counters.h"

namespace strata::zero3 {

/// Counts the time in which LibTorch computes for units (hop 4): forward of their bodies and its
/// gradient. A body may enter other units and a gradient may go through them, so the timer stands
/// while the engine works for one inside of another. Thread: the engine's.
class ComputeTimer {
 public:
  explicit ComputeTimer(Counters& counters) : counters_(counters) {}

  /// Lets the timer run, or stand, for the length of a scope.
  class Scope {
   public:
    Scope(ComputeTimer& timer, bool runs) : timer_(timer), before_(timer.turn(runs)) {}
    ~Scope() { timer_.turn(before_); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    ComputeTimer& timer_;
    bool before_;
  };
  [[nodiscard]] Scope runs() { return {*this, true}; }
  [[nodiscard]] Scope stands() { return {*this, false}; }

 private:
  /// Returns whether the timer ran before.
  bool turn(bool runs) {
    const Time now = counters_.clock().now();
    if (runs_) counters_.add_busy(Hop::kCompute, now - since_);
    since_ = now;
    return std::exchange(runs_, runs);
  }

  Counters& counters_;
  bool runs_ = false;
  Time since_;
};

}  // namespace strata::zero3
