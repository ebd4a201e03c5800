#pragma once

#include <torch/torch.h>

#include "strata/zero3/sharded.h"
#include "zero3/unit.h"

/// \file
/// One run of a body: what goes in, what it may do to parameters, what comes out.

namespace strata::zero3 {

/// Floating inputs in the unit's compute format, in runs of 16 bits. A unit that is kept in fp32
/// gets what others made in 16 bits as that.
[[nodiscard]] torch::autograd::variable_list cast_inputs(const Unit& unit,
                                                         torch::autograd::variable_list inputs);

/// Runs the body once, with the parameters at hand. Throws UsageError when it changes one of them;
/// `watched`: also past their version counters.
[[nodiscard]] torch::autograd::variable_list run_body(Unit& unit, const EntryBody& body,
                                                      const torch::autograd::variable_list& inputs,
                                                      bool watched = false);

/// Outputs for the world outside of the unit: what is a parameter, or a view of one, is copied, for
/// its memory will be given to others.
[[nodiscard]] torch::autograd::variable_list released(
    const Unit& unit, const torch::autograd::variable_list& outputs);

}  // namespace strata::zero3
