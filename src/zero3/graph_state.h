#pragma once

#include <torch/csrc/autograd/graph_task.h>
#include <torch/torch.h>

#include <string>

#include "strata/base/error.h"

/// \file
/// What a function of ours leaves in autograd's graph between its forward and its backward.

namespace strata::zero3 {

inline constexpr const char* kGraphState = "state";

/// The state, which is gone from the graph afterwards unless the caller retains the graph: the
/// loss, and with it the graph, lives on until the next one is made. Throws UsageError when an
/// earlier backward has taken it: `what` names whose backward, and `kept` what that released.
template <class State>
c10::intrusive_ptr<State> take_state(torch::autograd::AutogradContext& context,
                                     const std::string& what, const std::string& kept) {
  const auto saved = context.saved_data.find(kGraphState);
  if (saved == context.saved_data.end()) {
    throw UsageError("backward goes through " + what +
                     " a second time, but the first one has released " + kept +
                     "; call backward once for every forward, or pass retain_graph to the first "
                     "one (torch::autograd::grad)");
  }
  auto state = c10::static_intrusive_pointer_cast<State>(saved->second.toCapsule());
  if (!torch::autograd::get_current_graph_task_keep_graph()) context.saved_data.erase(saved);
  return state;
}

/// Those that autograd's functions may be given.
inline torch::autograd::variable_list defined_ones(const torch::autograd::variable_list& tensors) {
  torch::autograd::variable_list defined;
  for (const torch::Tensor& tensor : tensors) {
    if (tensor.defined()) defined.push_back(tensor);
  }
  return defined;
}

}  // namespace strata::zero3
