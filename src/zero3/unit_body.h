#pragma once

#include <torch/torch.h>

#include "strata/zero3/sharded.h"
#include "zero3/unit.h"

/// \file
/// One run of a body: its inputs, its changes of parameters, its outputs.

namespace strata::zero3 {

/// Whether an entry that asks for this runs its body again in backward.
[[nodiscard]] inline bool wants_recomputation(const Unit& unit, Recompute asked) {
  return asked == Recompute::kConfig ? unit.rules().recomputes : asked == Recompute::kAlways;
}

/// Casts floating inputs to the unit's compute format, in runs of 16 bits. A unit that is kept in
/// fp32 gets 16-bit outputs of others in fp32.
[[nodiscard]] torch::autograd::variable_list cast_inputs(const Unit& unit,
                                                         torch::autograd::variable_list inputs);

/// Runs the body once, with the parameters at hand. Throws UsageError when it changes one of them;
/// `watched`: also past their version counters.
[[nodiscard]] torch::autograd::variable_list run_body(Unit& unit, const EntryBody& body,
                                                      const torch::autograd::variable_list& inputs,
                                                      bool watched = false);

/// Outputs for the world outside of the unit: a parameter, or a view of one, is copied, since its
/// memory will be given to others.
[[nodiscard]] torch::autograd::variable_list released(
    const Unit& unit, const torch::autograd::variable_list& outputs);

}  // namespace strata::zero3
