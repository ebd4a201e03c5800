#include "models/expert_units.h"

#include <cstddef>

#include "models/kept_rows.h"
#include "strata/zero3/chosen_units.h"

namespace strata::models {

using torch::Tensor;

namespace {

/// The choices of all tokens, those of one expert after those of another.
struct Assignment {
  Tensor slots;                      ///< places in [tokens * k]
  Tensor tokens;                     ///< of these
  std::vector<std::int64_t> counts;  ///< of each expert
};

Assignment assignment_of(Tensor chosen, const Tensor& counted, std::int64_t experts) {
  const std::int64_t each = chosen.size(-1);
  if (counted.defined()) chosen = chosen.masked_fill(counted.logical_not().unsqueeze(-1), experts);
  chosen = chosen.flatten();
  const Tensor counts =
      torch::bincount(chosen, /*weights=*/{}, /*minlength=*/experts).narrow(0, 0, experts).cpu();
  Assignment assignment;
  const auto* const begin = counts.const_data_ptr<std::int64_t>();
  assignment.counts.assign(begin, begin + experts);
  std::int64_t all = 0;
  for (const std::int64_t count : assignment.counts) all += count;
  assignment.slots =
      torch::argsort(chosen, /*stable=*/true, /*dim=*/0, /*descending=*/false).narrow(0, 0, all);
  assignment.tokens = assignment.slots.div(each, "floor");
  return assignment;
}

/// Without gradients what an expert makes inside is of some tokens at a time.
Tensor by_tokens(ExpertImpl& expert, const Tensor& rows) {
  if (torch::GradMode::is_enabled() || rows.size(0) <= kKeptTokensAtATime) {
    return expert.forward(rows);
  }
  std::vector<Tensor> parts;
  for (const Tensor& part : rows.split(kKeptTokensAtATime)) parts.push_back(expert.forward(part));
  return torch::cat(parts);
}

}  // namespace

ExpertImpl::ExpertImpl(const std::array<std::string, 3>& names, std::int64_t width,
                       std::int64_t inner, const torch::TensorOptions& options)
    : gate_(register_module(names[0], Projection(width, inner, /*has_bias=*/false, options))),
      up_(register_module(names[1], Projection(width, inner, /*has_bias=*/false, options))),
      down_(register_module(names[2], Projection(inner, width, /*has_bias=*/false, options))) {}

Tensor ExpertImpl::forward(const Tensor& x) { return down_(torch::silu(gate_(x)) * up_(x)); }

Tensor ExpertUnits::run(const Routed& routed, const Tensor& counted) const {
  std::vector<ModelPart<Expert>>& experts = *units_;
  const Assignment assignment =
      assignment_of(routed.chosen, counted, static_cast<std::int64_t>(experts.size()));
  std::vector<bool> entered;
  for (const std::int64_t count : assignment.counts) entered.push_back(count > 0);
  if (in_engine_) entered = zero3::chosen_by_any_rank(experts.front().unit(), entered);

  const Tensor x = routed.normed.flatten(0, 1);
  const std::vector<Tensor> rows =
      x.index_select(0, assignment.tokens).split_with_sizes(assignment.counts);
  std::vector<Tensor> given;
  for (std::size_t expert = 0; expert < experts.size(); ++expert) {
    if (!entered[expert]) continue;
    given.push_back(experts[expert].run(by_tokens, Recompute::kConfig, rows[expert]));
  }
  if (given.empty()) return routed.residual;
  const Tensor weights = routed.weights.flatten().index_select(0, assignment.slots).unsqueeze(1);
  const Tensor weighted = (torch::cat(given) * weights).to(x.scalar_type());
  const Tensor sums = torch::zeros_like(x).index_add(0, assignment.tokens, weighted);
  return routed.residual + sums.view_as(routed.residual);
}

std::vector<Tensor> ExpertUnits::run(const std::vector<Routed>& batches) const {
  if (batches.size() == 1) return {run(batches.front())};
  // Batches may be of different lengths.
  const auto in_a_row = [&batches](Tensor Routed::*part) {
    std::vector<Tensor> tokens;
    for (const Routed& batch : batches) tokens.push_back((batch.*part).flatten(0, 1));
    return torch::cat(tokens).unsqueeze(0);
  };
  const Tensor all = run({.residual = in_a_row(&Routed::residual),
                          .normed = in_a_row(&Routed::normed),
                          .weights = in_a_row(&Routed::weights),
                          .chosen = in_a_row(&Routed::chosen)});
  std::vector<std::int64_t> sizes;
  for (const Routed& batch : batches) {
    sizes.push_back(batch.residual.size(0) * batch.residual.size(1));
  }
  std::vector<Tensor> each = all.squeeze(0).split_with_sizes(sizes);
  for (std::size_t i = 0; i < each.size(); ++i) each[i] = each[i].view_as(batches[i].residual);
  return each;
}

}  // namespace strata::models
