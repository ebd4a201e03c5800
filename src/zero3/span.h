#pragma once

#include <torch/torch.h>

#include <memory>

#include "strata/zero3/sharded.h"
#include "zero3/body_surroundings.h"
#include "zero3/entrance.h"
#include "zero3/kept_inputs.h"
#include "zero3/unit.h"

/// \file
/// Spans: computations that enter several units one after the other, and of which only the inputs
/// are kept for backward. No unit is in use around them, so each has the device to itself.

namespace strata::zero3 {

/// Runs `body`, and with gradients enabled once more in its backward, from the same inputs and the
/// same random state, with the graph that it did not make before. `unit` is one of those that it
/// enters: its rules say whether it recomputes where `recompute` leaves that open, and which
/// generators it draws from. Without recomputation it is `body(inputs)`. Gradients flow into
/// `inputs` and into the units entered; what `body` captures gets none. Outputs are defined.
/// Buffers are not put back, but for those of `unit`. Throws what entries throw; in backward
/// UsageError for weights or inputs that have changed since.
[[nodiscard]] torch::autograd::variable_list enter_span(const UnitHandle& unit, EntryBody body,
                                                        torch::autograd::variable_list inputs,
                                                        Recompute recompute);

/// What forward through a span leaves for backward beside its inputs: where it began from.
class SpanStart {
 public:
  /// Begins forward; the random state is taken here.
  explicit SpanStart(const std::shared_ptr<Unit>& unit) : surroundings_(*unit) {}

  /// For the length of a scope: forward, without gradients.
  class Forward {
   public:
    Forward(SpanStart& start, Unit& unit) : scope_(unit.entrance(), start.entries_) {}

   private:
    torch::NoGradGuard no_grad_;
    Entrance::SpanScope scope_;
  };

  /// For the length of a scope: forward once more and backward. Throws UsageError where weights
  /// have changed since.
  class Again {
   public:
    explicit Again(const SpanStart& start) : restored_(checked(start)) {}

   private:
    static const BodySurroundings& checked(const SpanStart& start) {
      start.entries_.refuse_changed_weights();
      return start.surroundings_;
    }
    BodySurroundings::Restored restored_;
  };

 private:
  BodySurroundings surroundings_;
  SpanEntries entries_;
};

}  // namespace strata::zero3
