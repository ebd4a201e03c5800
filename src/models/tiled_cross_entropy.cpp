#include "models/tiled_cross_entropy.h"

#include <string>
#include <utility>

#include "models/head_products.h"
#include "models/loss_chunks.h"
#include "models/loss_rows.h"
#include "models/ordered_mean.h"
#include "models/second_gradient.h"
#include "models/soft_cap.h"
#include "strata/base/error.h"
#include "strata/zero3/tiled.h"

namespace strata::models {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// [2, N] in fp32 of hidden [N, d] and a tile's weight. `columns`: the target's place in the tile,
/// 0 where `is_here` is false.
class TileStatistics : public torch::autograd::Function<TileStatistics> {
 public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& hidden,
                               const torch::Tensor& weight, const torch::Tensor& columns,
                               const torch::Tensor& is_here, std::int64_t chunk_rows,
                               std::optional<double> soft_cap) {
    const HeadProducts products(hidden, weight, chunk_rows);
    const torch::Tensor statistics =
        torch::empty({2, hidden.size(0)}, hidden.options().dtype(torch::kFloat32));
    const torch::Tensor sums = statistics[0], of_targets = statistics[1];
    for_each_block(products, [&](std::int64_t begin, const torch::Tensor& rows) {
      const std::int64_t count = rows.size(0);
      const torch::Tensor values = soft_capped(rows.to(torch::kFloat32), soft_cap);
      sums.narrow(0, begin, count).copy_(torch::logsumexp(values, 1));
      of_targets.narrow(0, begin, count)
          .copy_(values.gather(1, columns.narrow(0, begin, count).unsqueeze(1))
                     .squeeze(1)
                     .masked_fill(is_here.narrow(0, begin, count).logical_not(), 0));
    });
    context->save_for_backward({hidden, weight, columns, is_here, sums.clone()});
    context->saved_data["chunk_rows"] = chunk_rows;
    context->saved_data["soft_cap"] = soft_cap;
    return statistics;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    refuse_second_gradient("tile_statistics");
    const variable_list saved = context->get_saved_variables();
    const torch::Tensor &hidden = saved[0], &weight = saved[1], &columns = saved[2],
                        &is_here = saved[3], &sums = saved[4];
    const HeadProducts products(hidden, weight, context->saved_data["chunk_rows"].toInt());
    const auto soft_cap = context->saved_data["soft_cap"].toOptional<double>();
    const torch::Tensor of_sums = gradients[0][0];
    const torch::Tensor of_targets = gradients[0][1] * is_here;
    torch::Tensor of_hidden, of_weight;
    if (context->needs_input_grad(0)) of_hidden = products.room_for_hidden();
    if (context->needs_input_grad(1)) of_weight = products.room_for_weight();
    products.for_each_chunk(products.room_for_logits(), [&](std::int64_t begin,
                                                            const torch::Tensor& x,
                                                            const torch::Tensor& logits) {
      const std::int64_t count = x.size(0);
      const auto of_chunk = [&](const torch::Tensor& all) { return all.narrow(0, begin, count); };
      turn_to_gradients(logits, of_chunk(sums), of_chunk(of_sums), of_chunk(of_targets),
                        of_chunk(columns), soft_cap);
      if (of_hidden.defined()) {
        products.make_gradient_of_hidden(of_chunk(of_hidden), logits);
      }
      if (of_weight.defined()) {
        products.add_gradient_of_weight(of_weight, logits, x, begin == 0);
      }
    });
    variable_list result(6);  // one for every argument of forward
    if (of_hidden.defined()) result[0] = of_hidden.to(hidden.scalar_type());
    if (of_weight.defined()) result[1] = of_weight.to(weight.scalar_type());
    return result;
  }

 private:
  /// Calls `visit(first row, logits)` for blocks of rows that fit a cache.
  template <class Visit>
  static void for_each_block(const HeadProducts& products, Visit visit) {
    products.for_each_chunk(
        products.room_for_logits(),
        [&](std::int64_t begin, const torch::Tensor& /*x*/, const torch::Tensor& logits) {
          for_each_run(logits.size(0), block_rows(logits.size(1)),
                       [&](std::int64_t first, std::int64_t count) {
                         visit(begin + first, logits.narrow(0, first, count));
                       });
        });
  }

  /// Puts g where the logits were.
  static void turn_to_gradients(const torch::Tensor& logits, const torch::Tensor& sums,
                                const torch::Tensor& of_sums, const torch::Tensor& of_targets,
                                const torch::Tensor& columns, std::optional<double> soft_cap) {
    for_each_run(logits.size(0), block_rows(logits.size(1)),
                 [&](std::int64_t first, std::int64_t count) {
                   const auto column_of = [&](const torch::Tensor& rows) {
                     return rows.narrow(0, first, count).unsqueeze(1);
                   };
                   const torch::Tensor rows = logits.narrow(0, first, count);
                   const torch::Tensor values = soft_capped(rows.to(torch::kFloat32), soft_cap);
                   torch::Tensor g = values.sub(column_of(sums)).exp_();
                   g.mul_(column_of(of_sums));
                   g.scatter_add_(1, column_of(columns), column_of(of_targets));
                   through_soft_cap(g, values, soft_cap);
                   rows.copy_(g);
                 });
  }
};

/// mean_in_order, with its gradient.
class OrderedMean : public torch::autograd::Function<OrderedMean> {
 public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& row_losses,
                               double divisor) {
    context->saved_data["rows"] = row_losses.size(0);
    context->saved_data["divisor"] = divisor;
    return mean_in_order(row_losses, divisor);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const std::int64_t rows = context->saved_data["rows"].toInt();
    const double divisor = context->saved_data["divisor"].toDouble();
    return {(gradients[0] * (1.0 / divisor)).expand({rows}), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor tile_statistics(const torch::Tensor& hidden, const torch::Tensor& weight_rows,
                              const torch::Tensor& targets, const RowTiles& tiles,
                              std::int64_t tile, std::optional<std::int64_t> chunk_rows,
                              std::optional<double> soft_cap) {
  if (hidden.dim() != 2 || weight_rows.dim() != 2 || targets.dim() != 1 ||
      hidden.size(1) != weight_rows.size(1) || hidden.size(0) != targets.size(0) ||
      weight_rows.size(0) != tiles.size(tile) || hidden.numel() == 0 ||
      !hidden.is_floating_point() || hidden.scalar_type() != weight_rows.scalar_type() ||
      targets.scalar_type() != torch::kInt64) {
    throw UsageError(
        "tile_statistics needs hidden [N, d] and the tile's weight [rows, d] of one floating "
        "format, and int64 targets [N]");
  }
  const LossRows bearing = loss_rows(hidden, targets, std::nullopt);
  const std::int64_t rows =
      chunk_rows ? *chunk_rows
                 : loss_chunk_rows(HeadProducts::shape_of(bearing.hidden, weight_rows));
  if (rows < 1) {
    throw UsageError("tile_statistics takes at least 1 row at a time, not " + std::to_string(rows));
  }
  const torch::Tensor is_here = tile_numbers(tiles, bearing.targets) == tile;
  const torch::Tensor columns =
      (bearing.targets - tiles.begin(tile)).masked_fill(is_here.logical_not(), 0);
  return TileStatistics::apply(bearing.hidden, weight_rows, columns, is_here, rows, soft_cap);
}

torch::Tensor loss_of_tiles(const std::vector<torch::Tensor>& statistics,
                            std::optional<double> divisor) {
  const torch::Tensor all = torch::stack(statistics);  // [tiles, 2, N]
  const torch::Tensor of_targets = all.select(1, 1).sum(0);
  const torch::Tensor losses = torch::logsumexp(all.select(1, 0), 0) - of_targets;
  return OrderedMean::apply(losses, divisor.value_or(static_cast<double>(losses.size(0))));
}

}  // namespace strata::models
