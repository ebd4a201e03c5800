#pragma once

#include <torch/torch.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace strata::models {

/// Documents that lie one behind the other in the rows of a batch.
struct Documents {
  torch::Tensor positions;  ///< int64 [B, T], from 0 in every document
  /// Tokens of the documents of every row, in order; they add up to T.
  std::vector<std::vector<std::int64_t>> counts;
};

/// The documents that positions [B, T] in host memory tell apart (TokenBatch). Null where they are
/// undefined, or every row is one document. Throws UsageError where they are not int64 in host
/// memory, or neither go on nor begin at 0.
[[nodiscard]] std::shared_ptr<const Documents> documents_of(const torch::Tensor& positions);

/// attend(queries, keys, values) of every document by itself, and the results where the documents
/// lie: all are [B, heads, T, width], of as many heads as they come with. No pair of tokens of two
/// documents is computed, and no mask is made.
template <class Attend>
torch::Tensor by_documents(const Documents& documents, const torch::Tensor& queries,
                           const torch::Tensor& keys, const torch::Tensor& values, Attend attend) {
  // Backward of unbind and split is one stack and one cat; of slices it would be a whole each.
  const std::vector<torch::Tensor> q = queries.unbind(0), k = keys.unbind(0), v = values.unbind(0);
  std::vector<torch::Tensor> rows;
  for (std::size_t row = 0; row < q.size(); ++row) {
    const auto split = [&](const torch::Tensor& x) {
      return x.split_with_sizes(documents.counts[row], /*dim=*/1);
    };
    const std::vector<torch::Tensor> q_row = split(q[row]), k_row = split(k[row]),
                                     v_row = split(v[row]);
    std::vector<torch::Tensor> attended;
    for (std::size_t i = 0; i < q_row.size(); ++i) {
      attended.push_back(
          attend(q_row[i].unsqueeze(0), k_row[i].unsqueeze(0), v_row[i].unsqueeze(0)));
    }
    rows.push_back(torch::cat(attended, /*dim=*/2));
  }
  return torch::cat(rows);
}

}  // namespace strata::models
