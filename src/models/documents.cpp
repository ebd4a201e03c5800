#include "models/documents.h"

#include <span>
#include <string>
#include <utility>

#include "strata/base/error.h"
#include "strata/models/token_batch.h"

namespace strata::models {

std::shared_ptr<const Documents> documents_of(const torch::Tensor& positions) {
  if (!positions.defined()) return nullptr;
  if (positions.dim() != 2 || positions.scalar_type() != torch::kInt64 ||
      !positions.device().is_cpu()) {
    throw UsageError("positions must be int64 [B, T] in host memory, not " +
                     std::string(positions.dtype().name()) + " of " +
                     std::to_string(positions.dim()) + " dimensions on " +
                     positions.device().str());
  }
  const torch::Tensor dense = positions.contiguous();
  const auto length = static_cast<std::size_t>(dense.size(1));
  std::vector<std::vector<std::int64_t>> counts;
  bool is_packed = false;
  for (std::int64_t row = 0; row < dense.size(0); ++row) {
    std::vector<std::int64_t>& of_row = counts.emplace_back();
    const std::span places(dense.const_data_ptr<std::int64_t>() + row * dense.size(1), length);
    for (std::size_t i = 0; i < length; ++i) {
      if (places[i] == 0) {
        of_row.push_back(1);
      } else if (i > 0 && places[i] == places[i - 1] + 1) {
        ++of_row.back();
      } else {
        throw UsageError("position " + std::to_string(places[i]) + " of token " +
                         std::to_string(i) + " of row " + std::to_string(row) +
                         " neither begins a document (0) nor goes on from the token before it");
      }
    }
    is_packed = is_packed || of_row.size() > 1;
  }
  if (!is_packed) return nullptr;
  return std::make_shared<const Documents>(Documents{dense, std::move(counts)});
}

std::vector<torch::Tensor> TokenBatch::micro_batch() const {
  if (!positions.defined() && !divisor) return {tokens, targets};
  const torch::Tensor places =
      positions.defined()
          ? positions
          : torch::arange(tokens.size(1), torch::kInt64).expand(tokens.sizes()).contiguous();
  const double number =
      divisor ? *divisor : static_cast<double>(targets.ne(kNoTarget).sum().item<std::int64_t>());
  return {tokens, targets, places, torch::full({}, number, torch::kFloat64)};
}

}  // namespace strata::models
