#include "strata/zero3/shared_input.h"

#include <torch/csrc/autograd/graph_task.h>

#include <utility>

namespace strata {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

using Holder = c10::intrusive_ptr<torch::CustomClassHolder>;
constexpr const char* kSum = "sum";

/// The gradients that came in one backward.
class GradientSum32 : public torch::CustomClassHolder {
 public:
  void add(const torch::Tensor& gradient) {
    begin_anew_in_another_backward();
    if (sum_.defined()) {
      sum_.add_(gradient);
    } else {
      sum_ = gradient.to(torch::kFloat32, /*non_blocking=*/false, /*copy=*/true);
    }
  }
  /// Undefined where nothing came.
  torch::Tensor take() {
    begin_anew_in_another_backward();
    return std::exchange(sum_, {});
  }

  static GradientSum32& of(AutogradContext& context) {
    return static_cast<GradientSum32&>(*context.saved_data[kSum].toCapsule());
  }

 private:
  /// A backward before this one may have failed half-way.
  void begin_anew_in_another_backward() {
    const int now = torch::autograd::get_current_graph_task_id();
    if (std::exchange(backward_, now) != now) sum_ = torch::Tensor();
  }

  torch::Tensor sum_;
  int backward_ = -1;  // LibTorch's number of the graph task
};

/// One user's tensor: its backward adds what comes to the sum and passes nothing on.
class Branch : public torch::autograd::Function<Branch> {
 public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x,
                               const Holder& sum) {
    context->saved_data[kSum] = c10::IValue::make_capsule(sum);
    context->set_materialize_grads(false);
    return x.detach();
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    if (gradients[0].defined()) GradientSum32::of(*context).add(gradients[0]);
    return {torch::Tensor(), torch::Tensor()};
  }
};

/// The tensor that the branches begin at: its backward comes when all of theirs have been.
class Root : public torch::autograd::Function<Root> {
 public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x,
                               const Holder& sum) {
    context->saved_data[kSum] = c10::IValue::make_capsule(sum);
    context->saved_data["format"] = x.scalar_type();
    context->set_materialize_grads(false);
    return x.detach();
  }
  static variable_list backward(AutogradContext* context, variable_list /*gradients*/) {
    const torch::Tensor sum = GradientSum32::of(*context).take();
    return {sum.defined() ? sum.to(context->saved_data["format"].toScalarType()) : sum,
            torch::Tensor()};
  }
};

}  // namespace

SharedInput::SharedInput(torch::Tensor x) : x_(std::move(x)) {
  if (!torch::GradMode::is_enabled() || !x_.requires_grad()) return;
  sum_ = c10::make_intrusive<GradientSum32>();
  x_ = Root::apply(x_, sum_);
}

torch::Tensor SharedInput::take() const { return sum_ ? Branch::apply(x_, sum_) : x_; }

}  // namespace strata
