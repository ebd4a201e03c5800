#include "models/loss_rows.h"

#include <limits>

#include "strata/models/token_batch.h"

namespace strata::models {

LossRows loss_rows(const torch::Tensor& hidden, const torch::Tensor& targets,
                   std::optional<double> divisor) {
  const torch::Tensor bears = targets.ne(kNoTarget);
  const auto count = bears.sum().item<std::int64_t>();
  const double number = divisor.value_or(static_cast<double>(count));
  if (count == targets.numel()) return {hidden, targets, number};
  if (count == 0) {
    return {hidden.narrow(0, 0, 1), torch::zeros_like(targets.narrow(0, 0, 1)),
            std::numeric_limits<double>::infinity()};
  }
  const torch::Tensor rows = bears.nonzero().squeeze(1);
  return {hidden.index_select(0, rows), targets.index_select(0, rows), number};
}

double loss_divisor(const torch::Tensor& targets, std::optional<double> divisor) {
  const auto count = targets.ne(kNoTarget).sum().item<std::int64_t>();
  if (count == 0) return std::numeric_limits<double>::infinity();
  return divisor.value_or(static_cast<double>(count));
}

}  // namespace strata::models
