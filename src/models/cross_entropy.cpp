#include "models/cross_entropy.h"

#include <algorithm>
#include <cstdint>
#include <span>

#include "strata/base/error.h"

namespace strata::models {

namespace {

/// fp32 elements in flight; fits a last-level cache.
constexpr std::int64_t kChunkElements = 1 << 19;

/// Calls `visit(begin, count)` for runs of rows that cover [0, rows).
template <class Visit>
void for_each_chunk(const torch::Tensor& logits, Visit visit) {
  const std::int64_t rows = logits.size(0);
  const std::int64_t step = std::max<std::int64_t>(1, kChunkElements / logits.size(1));
  for (std::int64_t begin = 0; begin < rows; begin += step) {
    visit(begin, std::min(step, rows - begin));
  }
}

/// Adds in double, in order: LibTorch's own sum of many elements depends on the number of threads.
torch::Tensor mean_in_order(const torch::Tensor& row_losses) {
  const torch::Tensor on_host = row_losses.cpu();
  double sum = 0.0;
  for (const float loss :
       std::span(on_host.const_data_ptr<float>(), static_cast<std::size_t>(on_host.numel()))) {
    sum += loss;
  }
  return torch::full({}, sum / static_cast<double>(on_host.numel()), row_losses.options());
}

class CrossEntropy : public torch::autograd::Function<CrossEntropy> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context,
                               const torch::Tensor& logits, const torch::Tensor& targets) {
    context->save_for_backward({logits, targets});
    const torch::Tensor row_losses =
        torch::empty({logits.size(0)}, logits.options().dtype(torch::kFloat32));
    for_each_chunk(logits, [&](std::int64_t begin, std::int64_t count) {
      const torch::Tensor log_likelihoods =
          torch::log_softmax(logits.narrow(0, begin, count).to(torch::kFloat32), 1);
      const torch::Tensor of_targets =
          log_likelihoods.gather(1, targets.narrow(0, begin, count).unsqueeze(1));
      row_losses.narrow(0, begin, count).copy_(of_targets.squeeze(1).neg());
    });
    return mean_in_order(row_losses);
  }

  /// d loss / d logits = (softmax - one_hot(target)) / N, times the gradient from above; multiplied
  /// in fp32 so that a loss scale lifts small values before they are rounded to fp16.
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const torch::autograd::variable_list saved = context->get_saved_variables();
    const torch::Tensor &logits = saved[0], &targets = saved[1];
    const torch::Tensor factor = gradients[0] / static_cast<double>(logits.size(0));
    const torch::Tensor logit_gradients = torch::empty_like(logits);
    for_each_chunk(logits, [&](std::int64_t begin, std::int64_t count) {
      torch::Tensor chunk = torch::softmax(logits.narrow(0, begin, count).to(torch::kFloat32), 1);
      const torch::Tensor columns = targets.narrow(0, begin, count).unsqueeze(1);
      chunk.scatter_add_(1, columns, torch::full_like(columns, -1, chunk.options()));
      logit_gradients.narrow(0, begin, count).copy_(chunk.mul_(factor));
    });
    return {logit_gradients, torch::Tensor()};
  }
};

}  // namespace

torch::Tensor cross_entropy(const torch::Tensor& logits, const torch::Tensor& targets) {
  if (logits.dim() != 2 || targets.dim() != 1 || targets.size(0) != logits.size(0) ||
      logits.numel() == 0) {
    throw UsageError("cross_entropy needs logits [N, V] and targets [N] with N and V at least 1");
  }
  return CrossEntropy::apply(logits, targets);
}

}  // namespace strata::models
