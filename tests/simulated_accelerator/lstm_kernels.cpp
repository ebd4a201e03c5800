#include "simulated_accelerator/lstm_kernels.h"

#include <ATen/Functions.h>

#include <tuple>
#include <vector>

namespace strata::simulated {
namespace {

using at::Tensor;

constexpr std::int64_t kLstm = 2;  // among LibTorch's modes of recurrent layers

std::tuple<Tensor, Tensor, Tensor> lstm(const Tensor& sequence, at::TensorList states,
                                        at::TensorList weights, bool has_biases,
                                        std::int64_t layers, double dropout, bool train,
                                        bool bidirectional, bool batch_first) {
  TORCH_CHECK(sequence.scalar_type() == at::kFloat,
              "the simulated accelerator has an LSTM of fp32 numbers alone");
  const std::int64_t directions = bidirectional ? 2 : 1;
  const std::size_t of_each = has_biases ? 4 : 2;
  const Tensor hidden = states[0].contiguous();
  const Tensor cells = states[1].contiguous();
  Tensor x = (batch_first ? sequence.transpose(0, 1) : sequence).contiguous();
  std::vector<Tensor> last_hidden, last_cells;
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    std::vector<Tensor> outputs;
    for (std::int64_t direction = 0; direction < directions; ++direction) {
      const std::int64_t index = layer * directions + direction;
      const at::TensorList own = weights.slice(static_cast<std::size_t>(index) * of_each, of_each);
      const Tensor input_bias = has_biases ? own[2] : at::zeros_like(own[0]);
      const Tensor hidden_bias = has_biases ? own[3] : at::zeros_like(own[1]);
      auto [output, hidden_after, cell_after, workspace] = at::mkldnn_rnn_layer(
          x, own[0], own[1], input_bias, hidden_bias, hidden[index], cells[index],
          /*reverse=*/direction > 0, /*batch_sizes=*/{}, kLstm, hidden.size(2), layers, has_biases,
          bidirectional, batch_first, train);
      outputs.push_back(output);
      last_hidden.push_back(hidden_after);
      last_cells.push_back(cell_after);
    }
    x = directions == 1 ? outputs[0] : at::cat(outputs, -1);
    if (dropout > 0 && train && layer + 1 < layers) x = at::dropout(x, dropout, /*train=*/true);
  }
  return {batch_first ? x.transpose(0, 1) : x, at::stack(last_hidden), at::stack(last_cells)};
}

}  // namespace

void register_lstm_kernels(torch::Library& autograd) { autograd.impl("lstm.input", &lstm); }

}  // namespace strata::simulated
