#include "models/head_products.h"

namespace strata::models {

namespace {

constexpr std::int64_t kProductElements = 1 << 19;

torch::ScalarType product_format(const torch::Tensor& operand) {
  return operand.scalar_type() == torch::kFloat16 ? torch::kFloat32 : operand.scalar_type();
}

}  // namespace

std::int64_t block_rows(std::int64_t width) {
  return std::max<std::int64_t>(1, kProductElements / width);
}

HeadProducts::HeadProducts(const torch::Tensor& hidden, const torch::Tensor& weight,
                           std::int64_t rows_max)
    : hidden_(hidden), weight_(weight), format_(product_format(hidden)) {
  const std::int64_t rows = hidden.size(0);
  chunks_ = (rows + rows_max - 1) / rows_max;
  chunk_rows_ = (rows + chunks_ - 1) / chunks_;
}

LossShape HeadProducts::shape_of(const torch::Tensor& hidden, const torch::Tensor& weight) {
  return {.rows = hidden.size(0),
          .vocab_size = weight.size(0),
          .width = weight.size(1),
          .number_bytes = static_cast<std::int64_t>(torch::elementSize(product_format(hidden)))};
}

torch::Tensor HeadProducts::room_for_logits() const {
  return torch::empty({chunk_rows_, weight_.size(0)}, hidden_.options().dtype(format_));
}

torch::Tensor HeadProducts::room_for_hidden() const {
  return torch::empty(hidden_.sizes(), hidden_.options().dtype(format_));
}

torch::Tensor HeadProducts::room_for_weight() const {
  const bool in_fp32 = chunks_ > 1 && shape_of(hidden_, weight_).has_narrow_numbers();
  return torch::empty(weight_.sizes(),
                      hidden_.options().dtype(in_fp32 ? torch::kFloat32 : format_));
}

/// Calls `visit(first row of the weight, rows in the products' format)`: all, or some at a time
/// where they have to be converted.
template <class Visit>
void HeadProducts::for_weight_rows(Visit visit) const {
  const bool as_they_are = weight_.scalar_type() == format_;
  for_each_run(weight_.size(0), as_they_are ? weight_.size(0) : block_rows(weight_.size(1)),
               [&](std::int64_t begin, std::int64_t count) {
                 visit(begin, weight_.narrow(0, begin, count).to(format_));
               });
}

void HeadProducts::make_logits(torch::Tensor logits, const torch::Tensor& x) const {
  for_weight_rows([&](std::int64_t begin, const torch::Tensor& weight) {
    torch::Tensor columns = logits.narrow(1, begin, weight.size(0));
    torch::mm_out(columns, x, weight.t());
  });
}

void HeadProducts::make_gradient_of_hidden(torch::Tensor of_hidden, const torch::Tensor& g) const {
  for_weight_rows([&](std::int64_t begin, const torch::Tensor& weight) {
    const torch::Tensor columns = g.narrow(1, begin, weight.size(0));
    if (begin == 0) {
      torch::mm_out(of_hidden, columns, weight);
    } else {
      of_hidden.addmm_(columns, weight);
    }
  });
}

void HeadProducts::add_gradient_of_weight(torch::Tensor sum, const torch::Tensor& g,
                                          const torch::Tensor& x, bool is_first) const {
  if (sum.scalar_type() == format_) {
    if (is_first) {
      torch::mm_out(sum, g.t(), x);
    } else {
      sum.addmm_(g.t(), x);
    }
    return;
  }
  for_each_run(sum.size(0), block_rows(sum.size(1)), [&](std::int64_t begin, std::int64_t count) {
    const torch::Tensor part = torch::mm(g.narrow(1, begin, count).t(), x);
    torch::Tensor rows = sum.narrow(0, begin, count);
    if (is_first) {
      rows.copy_(part);
    } else {
      rows.add_(part);
    }
  });
}

}  // namespace strata::models
