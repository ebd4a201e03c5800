#include "zero3/anchor.h"

namespace strata::zero3 {

namespace {

constexpr const char* kName = "strata::anchor";

}  // namespace

Anchor::Anchor() : tensor_(torch::zeros({}, torch::requires_grad())) {
  torch::autograd::impl::set_name(tensor_, kName);
}

bool Anchor::take_other_backward() {
  if (!tensor_.grad().defined()) return false;
  tensor_.mutable_grad().reset();
  return true;
}

bool is_anchor(const torch::Tensor& tensor) { return tensor.name() == kName; }

}  // namespace strata::zero3
