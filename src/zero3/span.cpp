#include "zero3/span.h"

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "strata/base/error.h"
#include "zero3/graph_state.h"
#include "zero3/unit_body.h"

namespace strata::zero3 {

using torch::autograd::variable_list;

namespace {

/// The state that forward leaves for backward.
struct SpanState : torch::CustomClassHolder {
  UnitHandle unit;
  EntryBody body;
  KeptInputs inputs;
  std::optional<SpanStart> start;
};

[[noreturn]] void refuse_changed_input(const Unit& unit, std::size_t input) {
  throw UsageError("input " + std::to_string(input) + " of the span of unit '" + unit.name() +
                   "' was changed in place, and its values are needed to run the span again for "
                   "backward; change a clone() of it");
}

class SpanFunction : public torch::autograd::Function<SpanFunction> {
 public:
  // `anchor` and `inputs`: as those of UnitFunction.
  static variable_list forward(torch::autograd::AutogradContext* context,
                               const torch::Tensor& /*anchor*/, at::TensorList /*inputs*/,
                               const c10::intrusive_ptr<SpanState>& state) {
    const std::shared_ptr<Unit> unit = unit_of(state->unit);
    state->start.emplace(unit);
    variable_list results;
    {
      const SpanStart::Forward scope(*state->start, *unit);
      const auto running = unit->entrance().compute_timer().runs({unit->name(), {}});
      for (const torch::Tensor& output : state->body(state->inputs.tensors())) {
        // Not the tensor itself: it may be an input, which the state holds, which the graph holds.
        results.push_back(output.detach());
      }
    }
    if (const auto i = state->inputs.changed_from()) refuse_changed_input(*unit, *i);
    state->inputs.put_away(unit->entrance().activations());
    context->saved_data[kGraphState] = c10::IValue::make_capsule(state);
    context->set_materialize_grads(false);
    return results;
  }

  static variable_list backward(torch::autograd::AutogradContext* context,
                                variable_list output_gradients) {
    const c10::intrusive_ptr<SpanState> state =
        take_state<SpanState>(*context, "a span of units", "what it kept");
    const std::shared_ptr<Unit> unit = unit_of(state->unit);
    if (torch::GradMode::is_enabled()) {
      throw UsageError(
          "a gradient of a gradient (create_graph) was asked for through the span of unit '" +
          unit->name() + "', which does not exist: what its backward computes is not recorded");
    }
    if (const auto i = state->inputs.changed_from()) refuse_changed_input(*unit, *i);
    const bool counts = unit->entrance().anchor().counts();
    const SpanStart::Again again(*state->start);
    const KeptInputs::AtHand at_hand(state->inputs, unit->entrance().activations());
    const auto running = unit->entrance().compute_timer().runs({unit->name(), {}});
    const variable_list outputs = run_with_graph(*state);
    variable_list roots, of_roots;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (!output_gradients[i].defined() || !outputs[i].requires_grad()) continue;
      roots.push_back(outputs[i]);
      of_roots.push_back(output_gradients[i]);
    }
    // Of the arguments of forward: the anchor, the defined inputs, the state.
    variable_list wanted;
    std::vector<std::size_t> places;
    std::size_t edges = 1;
    for (const torch::Tensor& input : state->inputs.tensors()) {
      if (!input.defined()) continue;
      if (input.requires_grad() && context->needs_input_grad(edges)) {
        wanted.push_back(input);
        places.push_back(edges);
      }
      ++edges;
    }
    // Units whose inputs need nothing are reached through the anchor alone.
    if (counts) wanted.push_back(unit->entrance().anchor().tensor());
    variable_list result(edges + 1);
    if (!counts) result.front() = torch::zeros({});
    if (roots.empty() || wanted.empty()) return result;
    variable_list gradients = torch::autograd::grad(roots, wanted, of_roots, /*retain_graph=*/false,
                                                    /*create_graph=*/false, /*allow_unused=*/true);
    for (std::size_t i = 0; i < places.size(); ++i) result[places[i]] = std::move(gradients[i]);
    return result;
  }

 private:
  static variable_list run_with_graph(SpanState& state) {
    const torch::AutoGradMode with_gradients(true);
    return state.body(state.inputs.tensors());
  }
};

}  // namespace

variable_list enter_span(const UnitHandle& handle, EntryBody body, variable_list inputs,
                         Recompute recompute) {
  const std::shared_ptr<Unit> unit = unit_of(handle);
  if (!torch::GradMode::is_enabled() || !wants_recomputation(*unit, recompute)) return body(inputs);
  auto state = c10::make_intrusive<SpanState>();
  state->unit = handle;
  state->body = std::move(body);
  state->inputs = KeptInputs(inputs);
  const variable_list defined = defined_ones(inputs);
  return SpanFunction::apply(unit->entrance().anchor().tensor(), at::TensorList(defined), state);
}

}  // namespace strata::zero3
