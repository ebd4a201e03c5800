#include "simulated_accelerator/lstm_kernels.h"

#include <ATen/Functions.h>

#include <tuple>

namespace strata::simulated {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;
using ThreeTensors = std::tuple<Tensor, Tensor, Tensor>;

bool is_given(const OptionalTensor& tensor) { return tensor.has_value() && tensor->defined(); }

/// The third result is what the backward pass needs: the activated gates.
ThreeTensors cell(const Tensor& of_input, const Tensor& of_hidden, const Tensor& cell_before,
                  const OptionalTensor& input_bias, const OptionalTensor& hidden_bias) {
  Tensor input = of_input;
  Tensor hidden = of_hidden;
  if (is_given(input_bias)) input = input + *input_bias;
  if (is_given(hidden_bias)) hidden = hidden + *hidden_bias;
  const std::vector<Tensor> gates = (hidden + input).chunk(4, 1);
  const Tensor in = gates[0].sigmoid();
  const Tensor forget = gates[1].sigmoid();
  const Tensor candidate = gates[2].tanh();
  const Tensor out = gates[3].sigmoid();
  const Tensor cell_after = (forget * cell_before).add_(in * candidate);
  return {out * cell_after.tanh(), cell_after, at::cat({in, forget, candidate, out}, 1)};
}

ThreeTensors cell_backward(const OptionalTensor& of_hidden, const OptionalTensor& of_cell,
                           const Tensor& cell_before, const Tensor& cell_after,
                           const Tensor& activated, bool has_bias) {
  const std::vector<Tensor> gates = activated.chunk(4, 1);
  const Tensor& in = gates[0];
  const Tensor& forget = gates[1];
  const Tensor& candidate = gates[2];
  const Tensor& out = gates[3];
  const Tensor squashed = cell_after.tanh();
  Tensor of_state = is_given(of_cell) ? *of_cell : at::zeros_like(cell_after);
  Tensor of_out = at::zeros_like(out);
  if (is_given(of_hidden)) {
    of_state = of_state + *of_hidden * out * (1 - squashed * squashed);
    of_out = *of_hidden * squashed * out * (1 - out);
  }
  const Tensor of_gates =
      at::cat({of_state * candidate * in * (1 - in), of_state * cell_before * forget * (1 - forget),
               of_state * in * (1 - candidate * candidate), of_out},
              1);
  return {of_gates, of_state * forget, has_bias ? of_gates.sum(0) : Tensor()};
}

}  // namespace

void register_lstm_kernels(torch::Library& aten) {
  aten.impl("_thnn_fused_lstm_cell", &cell);
  aten.impl("_thnn_fused_lstm_cell_backward_impl", &cell_backward);
}

}  // namespace strata::simulated
