#include <torch/torch.h>

#include <utility>

#include "strata/base/error.h"
#include "strata/zero3/sharded.h"
#include "zero3/engine_impl.h"
#include "zero3/unit.h"

/// \file
/// How LibTorch's autograd meets the engine. A unit runs inside one torch::autograd::Function:
/// forward unshards, runs the body and reshards; backward unshards again, runs or reuses the body's
/// inner graph, takes the parameters' gradients straight from autograd and hands them on. C++
/// modules have no hooks; this needs none.

namespace strata::zero3 {

using torch::autograd::variable_list;

namespace {

torch::Tensor random_state() {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

void set_random_state(const torch::Tensor& state) {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state);
}

/// A unit in use, for the length of a scope.
class UnshardedScope {
 public:
  UnshardedScope(Unit& unit, Pass pass, bool evaluating) : unit_(unit) {
    unit.engine().parameters().unshard(unit, pass, evaluating);
  }
  ~UnshardedScope() { unit_.engine().parameters().reshard(unit_); }
  UnshardedScope(const UnshardedScope&) = delete;
  UnshardedScope& operator=(const UnshardedScope&) = delete;

 private:
  Unit& unit_;
};

/// What forward leaves for backward.
struct EntryState : torch::CustomClassHolder {
  Unit* unit = nullptr;
  EntryBody body;
  bool recompute = false;
  torch::Tensor random_state;  // as it was before the body ran; recompute only
  variable_list inputs;        // detached; the leaves of the inner graph
  variable_list outputs;       // of the inner graph; empty until it exists
};

variable_list detach_all(at::TensorList inputs) {
  variable_list detached;
  for (const torch::Tensor& input : inputs) {
    if (!input.defined()) {
      detached.emplace_back();
      continue;
    }
    detached.push_back(input.detach());
    detached.back().set_requires_grad(input.requires_grad());
  }
  return detached;
}

/// Runs the body with gradients on, from the inputs of `state`, leaving the inner graph in it.
void run_inner_graph(EntryState& state) {
  torch::AutoGradMode with_gradients(true);
  state.outputs = state.body(state.inputs);
}

void recompute(EntryState& state) {
  const torch::Tensor now = random_state();
  set_random_state(state.random_state);
  run_inner_graph(state);
  set_random_state(now);
}

class UnitFunction : public torch::autograd::Function<UnitFunction> {
 public:
  // `anchor` requires a gradient, so that backward comes even where no input does (token ids).
  // `inputs` is a TensorList because that is the one list in which autograd looks for variables.
  static variable_list forward(torch::autograd::AutogradContext* context,
                               const torch::Tensor& /*anchor*/, at::TensorList inputs,
                               const c10::intrusive_ptr<EntryState>& state) {
    UnshardedScope scope(*state->unit, Pass::kForward, /*evaluating=*/false);
    state->inputs = detach_all(inputs);
    variable_list results;
    if (state->recompute) {
      state->random_state = random_state();
      results = state->body(state->inputs);
    } else {
      run_inner_graph(*state);
      for (const torch::Tensor& output : state->outputs) results.push_back(output.detach());
    }
    context->saved_data["state"] = c10::IValue::make_capsule(state);
    context->saved_data["inputs"] = static_cast<std::int64_t>(inputs.size());
    context->set_materialize_grads(false);
    return results;
  }

  static variable_list backward(torch::autograd::AutogradContext* context,
                                variable_list output_gradients) {
    auto state =
        c10::static_intrusive_pointer_cast<EntryState>(context->saved_data["state"].toCapsule());
    context->saved_data.erase("state");
    Unit& unit = *state->unit;
    UnshardedScope scope(unit, Pass::kBackward, /*evaluating=*/false);
    if (state->recompute) recompute(*state);
    variable_list gradients = inner_gradients(*state, output_gradients);
    state->outputs.clear();

    variable_list of_parameters(
        std::make_move_iterator(gradients.begin()),
        std::make_move_iterator(gradients.begin() +
                                static_cast<std::ptrdiff_t>(unit.trainable_parameters().size())));
    if (!of_parameters.empty()) {
      unit.engine().gradients().accumulate(unit, std::move(of_parameters));
    }
    // One gradient per argument of forward: the anchor, the inputs, the state.
    variable_list result(1);
    std::size_t next = unit.trainable_parameters().size();
    for (const torch::Tensor& input : state->inputs) {
      result.push_back(input.defined() && input.requires_grad() ? std::move(gradients[next++])
                                                                : torch::Tensor());
    }
    result.emplace_back();
    return result;
  }

 private:
  /// Gradients of the trainable parameters, then of the inputs that want one.
  static variable_list inner_gradients(const EntryState& state,
                                       const variable_list& output_gradients) {
    variable_list outputs, gradients;
    for (std::size_t i = 0; i < state.outputs.size(); ++i) {
      if (!output_gradients[i].defined() || !state.outputs[i].requires_grad()) continue;
      outputs.push_back(state.outputs[i]);
      gradients.push_back(output_gradients[i]);
    }
    variable_list wanted = state.unit->trainable_parameters();
    for (const torch::Tensor& input : state.inputs) {
      if (input.defined() && input.requires_grad()) wanted.push_back(input);
    }
    if (outputs.empty() || wanted.empty()) return variable_list(wanted.size());
    variable_list result = torch::autograd::grad(outputs, wanted, gradients, /*retain_graph=*/false,
                                                 /*create_graph=*/false, /*allow_unused=*/true);
    const std::size_t parameters = state.unit->trainable_parameters().size();
    for (std::size_t i = 0; i < parameters; ++i) {
      if (result[i].defined()) result[i] = result[i].contiguous();
    }
    return result;
  }
};

}  // namespace

variable_list enter(Unit& unit, EntryBody body, variable_list inputs, Recompute recompute) {
  Engine::Impl& engine = unit.engine();
  engine.prepare();
  if (!torch::GradMode::is_enabled()) {
    UnshardedScope scope(unit, Pass::kForward, /*evaluating=*/true);
    return body(inputs);
  }
  auto state = c10::make_intrusive<EntryState>();
  state->unit = &unit;
  state->body = std::move(body);
  state->recompute = recompute == Recompute::kConfig && engine.recompute();
  return UnitFunction::apply(engine.anchor(), at::TensorList(inputs), state);
}

void with_unsharded(Unit& unit, const std::function<void()>& visit) {
  unit.engine().prepare();
  torch::NoGradGuard no_grad;
  UnshardedScope scope(unit, Pass::kForward, /*evaluating=*/true);
  visit();
}

}  // namespace strata::zero3
