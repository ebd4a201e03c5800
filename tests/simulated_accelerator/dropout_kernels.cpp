#include "simulated_accelerator/dropout_kernels.h"

#include <ATen/Functions.h>

#include <tuple>

namespace strata::simulated {
namespace {

/// The mask is what the input is multiplied by: 0, or the rounded 1 / (1 - p).
std::tuple<at::Tensor, at::Tensor> native_dropout(const at::Tensor& input, double p,
                                                  std::optional<bool> train) {
  at::Tensor mask = at::empty_like(input);
  if (train.value_or(true)) {
    mask.bernoulli_(1 - p).div_(1 - p);
  } else {
    mask.fill_(1);
  }
  return {input * mask, mask};
}

at::Tensor native_dropout_backward(const at::Tensor& gradient, const at::Tensor& mask, double) {
  return gradient * mask;
}

}  // namespace

void register_dropout_kernels(torch::Library& aten) {
  aten.impl("native_dropout", &native_dropout);
  aten.impl("native_dropout_backward", &native_dropout_backward);
}

}  // namespace strata::simulated
