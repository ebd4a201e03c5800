#include <ATen/SequenceNumber.h>
#include <torch/csrc/autograd/graph_task.h>
#include <torch/torch.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "strata/base/error.h"
#include "strata/zero3/sharded.h"
#include "zero3/body_surroundings.h"
#include "zero3/entrance.h"
#include "zero3/graph_state.h"
#include "zero3/inner_graph.h"
#include "zero3/kept_inputs.h"
#include "zero3/unit.h"
#include "zero3/unit_body.h"

/// \file
/// The engine's part in LibTorch's autograd. A unit runs inside one torch::autograd::Function:
/// forward unshards, runs the body and reshards; backward unshards again, runs or reuses the body's
/// inner graph, takes the parameters' gradients straight from autograd and hands them on. C++
/// modules have no hooks; this needs none.

namespace strata::zero3 {

using torch::autograd::variable_list;

namespace {

/// The state that forward leaves for backward.
struct EntryState : torch::CustomClassHolder {
  UnitHandle unit;
  EntryBody body;
  bool recompute = false;
  std::optional<BodySurroundings> surroundings;  // kept for recomputation only
  OutputSample sample;                           // kept of watched entries that recompute
  KeptInputs kept;                               // the leaves of the inner graph
  variable_list outputs;              // outputs of the inner graph; empty until it exists
  std::vector<bool> defined_outputs;  // which outputs are defined, in the body's order
  std::uint64_t weights_version = 0;  // version with which forward ran
  bool keeps_graph = false;           // the inner graph waits for backward

  ~EntryState() override { drop_graph(); }

  [[nodiscard]] const variable_list& inputs() const { return kept.tensors(); }

  void keep_graph(Unit& of) {
    keeps_graph = true;
    of.keep_graph();
  }
  void drop_graph() {
    outputs.clear();
    if (!std::exchange(keeps_graph, false)) return;
    if (const auto held = unit.lock()) held->drop_graph(weights_version);
  }
};

[[noreturn]] void refuse_changed_input(const Unit& unit, std::size_t input, const char* when) {
  throw UsageError("input " + std::to_string(input) + " of unit '" + unit.name() +
                   "' was changed in place " + when +
                   ", and its values are needed for the backward of the unit; change a clone() of "
                   "it, or use the operation that returns a new tensor");
}

/// Runs the body with gradients on, from the inputs of `state`, leaving the inner graph in it.
void run_inner_graph(Unit& unit, EntryState& state, bool watched = false) {
  const torch::AutoGradMode with_gradients(true);
  const std::uint64_t first = at::sequence_number::peek();
  state.outputs = run_body(unit, state.body, state.inputs(), watched);
  refuse_captured_tensors(unit, state.inputs(), state.outputs, first);
}

/// Runs forward as backward will recompute it, with a graph over `leaves` that is dropped at once:
/// a module that keeps a piece of it gets an error when a gradient comes through it.
variable_list run_watched(Unit& unit, EntryState& state, const variable_list& leaves) {
  const torch::AutoGradMode with_gradients(true);
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    if (!leaves[i].defined() || !leaves[i].requires_grad()) continue;
    leaves[i].register_hook([name = unit.name(), i](const torch::Tensor&) -> torch::Tensor {
      throw UsageError("a gradient reached input " + std::to_string(i) + " of unit '" + name +
                       "' through a tensor that the unit kept in a member (an auxiliary loss?), "
                       "where the rest of it would be lost; return that tensor from forward as "
                       "another output");
    });
  }
  const std::uint64_t first = at::sequence_number::peek();
  const variable_list outputs = run_body(unit, state.body, leaves, /*watched=*/true);
  refuse_captured_tensors(unit, leaves, outputs, first);
  state.sample = OutputSample(outputs);
  return outputs;
}

/// Gradients of the parameters (if `counts`), then of the inputs that are wanted.
struct InnerGradients {
  variable_list of_parameters, of_inputs;
};

class UnitFunction : public torch::autograd::Function<UnitFunction> {
 public:
  // `anchor` requires a gradient, so that backward comes even where no input does (token ids).
  // `inputs`, the defined ones of the state's, are a TensorList because that is the one list in
  // which autograd looks for variables.
  static variable_list forward(torch::autograd::AutogradContext* context,
                               const torch::Tensor& /*anchor*/, at::TensorList /*inputs*/,
                               const c10::intrusive_ptr<EntryState>& state) {
    Unit& unit = *unit_of(state->unit);
    const EnteredScope scope(unit, Pass::kForward, View::kTraining);
    state->weights_version = unit.weights_version();
    const bool watched = unit.is_next_entry_watched() || unit.keeps_tensors;
    variable_list outputs, leaves;
    if (state->recompute) {
      state->surroundings.emplace(unit);
      if (watched) leaves = state->kept.copies();
      outputs = watched ? run_watched(unit, *state, leaves)
                        : run_body(unit, state->body, state->inputs());
      state->surroundings->keep_what_changed();
    } else {
      run_inner_graph(unit, *state, watched);
      state->keep_graph(unit);
      outputs = state->outputs;
    }
    for (auto i = state->kept.changed_from(); i; i = state->kept.changed_from(*i + 1)) {
      if (state->recompute || state->inputs()[*i].requires_grad()) {
        refuse_changed_input(unit, *i, "by its body");
      }
    }
    variable_list results;
    for (const torch::Tensor& output : released(unit, outputs)) {
      state->defined_outputs.push_back(output.defined());
      // Not the tensor itself: it may be an input, which the state holds, which the graph holds.
      if (output.defined()) results.push_back(output.detach());
    }
    outputs.clear();
    if (state->recompute && watched) note_kept_tensors(unit, leaves);
    if (state->recompute) state->kept.put_away(unit.entrance().activations());
    context->saved_data[kGraphState] = c10::IValue::make_capsule(state);
    context->set_materialize_grads(false);
    return results;
  }

  static variable_list backward(torch::autograd::AutogradContext* context,
                                variable_list output_gradients) {
    const c10::intrusive_ptr<EntryState> state =
        take_state<EntryState>(*context, "a unit", "what the unit kept for it");
    Unit& unit = *unit_of(state->unit);
    const auto standing = unit.entrance().compute_timer().stands();
    if (torch::GradMode::is_enabled()) {
      throw UsageError("a gradient of a gradient (create_graph) was asked for through unit '" +
                       unit.name() +
                       "', which does not exist: what a unit's backward computes is not recorded");
    }
    refuse_changed_weights(unit, *state);
    unit.entrance().announce();
    const bool counts = unit.entrance().anchor().counts();
    std::vector<std::size_t> wanted = wanted_inputs(*context, *state);
    InnerGradients gradients;
    if (counts || !wanted.empty()) {
      const EnteredScope scope(unit, Pass::kBackward, View::kTraining);
      refuse_changed_weights(unit, *state);  // entering takes over what a visitor has changed
      gradients = state->recompute
                      ? recompute(unit, *state, output_gradients, wanted, counts)
                      : inner_gradients(unit, *state, output_gradients, wanted, counts);
      if (!keeps_graph()) state->drop_graph();
      if (counts) unit.entrance().take_gradients(unit, std::move(gradients.of_parameters));
    }
    // One gradient per argument of forward: the anchor, the defined inputs, the state. The anchor's
    // shows the engine that a backward came by that was not its own.
    variable_list result(1);
    if (!counts) result.front() = torch::zeros({});
    std::size_t next = 0;
    for (std::size_t i = 0; i < state->inputs().size(); ++i) {
      if (!state->inputs()[i].defined()) continue;
      const bool has_one = next < wanted.size() && wanted[next] == i;
      result.push_back(has_one ? std::move(gradients.of_inputs[next++]) : torch::Tensor());
    }
    result.emplace_back();
    return result;
  }

 private:
  static void refuse_changed_weights(const Unit& unit, const EntryState& state) {
    if (state.weights_version == unit.weights_version()) return;
    throw UsageError("the weights of unit '" + unit.name() +
                     "' have changed between this forward and its backward (a step, a load, a "
                     "change inside with_unsharded), so its gradients would be of another "
                     "function; call backward before they change");
  }

  /// Once a module keeps a tensor of its forward, every forward of it is one in which a gradient
  /// that comes through that tensor is found.
  static void note_kept_tensors(Unit& unit, const variable_list& leaves) {
    unit.keeps_tensors = unit.keeps_tensors || is_graph_alive(unit, leaves);
  }

  static bool keeps_graph() { return torch::autograd::get_current_graph_task_keep_graph(); }

  /// Indices of the inputs whose gradients autograd asks for.
  static std::vector<std::size_t> wanted_inputs(const torch::autograd::AutogradContext& context,
                                                const EntryState& state) {
    std::vector<std::size_t> wanted;
    std::size_t edge = 1;  // behind the anchor's
    for (std::size_t i = 0; i < state.inputs().size(); ++i) {
      const torch::Tensor& input = state.inputs()[i];
      if (!input.defined()) continue;
      if (input.requires_grad() && context.needs_input_grad(edge)) wanted.push_back(i);
      ++edge;
    }
    return wanted;
  }

  static InnerGradients recompute(Unit& unit, EntryState& state,
                                  const variable_list& output_gradients,
                                  const std::vector<std::size_t>& wanted, bool counts) {
    if (const auto i = state.kept.changed_from()) {
      refuse_changed_input(unit, *i, "between its forward and its backward");
    }
    const KeptInputs::AtHand at_hand(state.kept, unit.entrance().activations());
    const BodySurroundings::Restored restored(*state.surroundings);
    run_inner_graph(unit, state);
    bool alike = state.outputs.size() == state.defined_outputs.size();
    for (std::size_t i = 0; alike && i < state.outputs.size(); ++i) {
      alike = state.outputs[i].defined() == state.defined_outputs[i];
    }
    if (!alike) {
      throw UsageError("unit '" + unit.name() +
                       "' returned other tensors in forward than when it was run again for "
                       "backward; return as many every time, and the same ones undefined");
    }
    state.sample.compare(unit, state.outputs);
    InnerGradients gradients = inner_gradients(unit, state, output_gradients, wanted, counts);
    state.outputs.clear();
    note_kept_tensors(unit, state.inputs());
    return gradients;
  }

  static InnerGradients inner_gradients(Unit& unit, const EntryState& state,
                                        const variable_list& output_gradients,
                                        const std::vector<std::size_t>& wanted_inputs,
                                        bool counts) {
    variable_list outputs, of_outputs;
    std::size_t result = 0;
    for (std::size_t i = 0; i < state.outputs.size(); ++i) {
      if (!state.defined_outputs[i]) continue;
      const torch::Tensor& gradient = output_gradients[result++];
      if (!gradient.defined() || !state.outputs[i].requires_grad()) continue;
      outputs.push_back(state.outputs[i]);
      of_outputs.push_back(gradient);
    }
    variable_list wanted;
    std::vector<std::size_t> trained;
    for (std::size_t i = 0; counts && i < unit.trainables().size(); ++i) {
      if (!unit.trainables()[i].tensor.requires_grad()) continue;
      trained.push_back(i);
      wanted.push_back(unit.trainables()[i].tensor);
    }
    for (const std::size_t i : wanted_inputs) wanted.push_back(state.inputs()[i]);
    // Units inside this one are reached through their anchor alone when their inputs need nothing.
    if (counts) wanted.push_back(unit.entrance().anchor().tensor());

    InnerGradients gradients{variable_list(unit.trainables().size()),
                             variable_list(wanted_inputs.size())};
    if (outputs.empty() || wanted.empty()) return gradients;
    const FlagScope taking_gradients = unit.taking_gradients();
    const auto running = unit.entrance().compute_timer().runs(work_of(unit));
    variable_list all = torch::autograd::grad(outputs, wanted, of_outputs,
                                              /*retain_graph=*/!state.recompute && keeps_graph(),
                                              /*create_graph=*/false, /*allow_unused=*/true);
    for (std::size_t i = 0; i < trained.size(); ++i) {
      gradients.of_parameters[trained[i]] = dense(unit, trained[i], std::move(all[i]));
    }
    for (std::size_t i = 0; i < wanted_inputs.size(); ++i) {
      gradients.of_inputs[i] = std::move(all[trained.size() + i]);
    }
    return gradients;
  }

  static torch::Tensor dense(const Unit& unit, std::size_t index, torch::Tensor gradient) {
    if (!gradient.defined()) return gradient;
    if (gradient.layout() == torch::kStrided) return gradient.contiguous();
    throw UsageError("parameter '" + unit.layout().full_name(*unit.trainables()[index].layout) +
                     "' has a sparse gradient, and its optimizer states are dense; build the "
                     "embedding with sparse(false)");
  }
};

/// Runs a body without anything to train of its own as it is, if it needs no backward.
/// Nullopt when it turns out that units inside of it train; all is then as before.
std::optional<variable_list> run_without_backward(Unit& unit, const EntryBody& body,
                                                  const variable_list& inputs) {
  const EnteredScope scope(unit, Pass::kForward, View::kTraining);
  const BodySurroundings surroundings(unit);
  variable_list outputs = released(unit, run_body(unit, body, inputs));
  const bool trains = std::any_of(outputs.begin(), outputs.end(), [](const torch::Tensor& output) {
    return output.defined() && output.requires_grad();
  });
  if (!trains) return outputs;
  surroundings.restore();
  unit.contains_training_units = true;
  return std::nullopt;
}

}  // namespace

variable_list enter(const UnitHandle& handle, EntryBody body, variable_list inputs,
                    Recompute recompute) {
  const std::shared_ptr<Unit> held = unit_of(handle);
  Unit& unit = *held;
  const auto standing = unit.entrance().compute_timer().stands();
  unit.entrance().announce();
  inputs = cast_inputs(unit, std::move(inputs));
  if (!torch::GradMode::is_enabled()) {
    const EnteredScope scope(unit, Pass::kForward, unit.entrance().view_without_gradients());
    unit.entrance().note_entry(handle);
    return released(unit, run_body(unit, body, inputs));
  }
  const bool inputs_need_gradients = std::any_of(
      inputs.begin(), inputs.end(),
      [](const torch::Tensor& input) { return input.defined() && input.requires_grad(); });
  if (!inputs_need_gradients && !unit.is_training() && !unit.contains_training_units) {
    if (auto outputs = run_without_backward(unit, body, inputs)) return std::move(*outputs);
  }
  auto state = c10::make_intrusive<EntryState>();
  state->unit = handle;
  state->body = std::move(body);
  state->recompute = wants_recomputation(unit, recompute);
  state->kept = KeptInputs(inputs);
  const variable_list defined = defined_ones(inputs);
  const variable_list results =
      UnitFunction::apply(unit.entrance().anchor().tensor(), at::TensorList(defined), state);
  variable_list outputs;
  std::size_t next = 0;
  for (const bool is_defined : state->defined_outputs) {
    outputs.push_back(is_defined ? results[next++] : torch::Tensor());
  }
  return outputs;
}

}  // namespace strata::zero3
