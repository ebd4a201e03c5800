#include "models/linear_cross_entropy.h"

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include "models/loss_chunks.h"
#include "strata/base/error.h"

namespace strata::models {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Elements in flight between two formats; fits a last-level cache.
constexpr std::int64_t kBlockElements = 1 << 19;

/// Calls `visit(begin, count)` for runs of at most `step` that cover [0, total).
template <class Visit>
void for_each_run(std::int64_t total, std::int64_t step, Visit visit) {
  for (std::int64_t begin = 0; begin < total; begin += step) {
    visit(begin, std::min(step, total - begin));
  }
}

/// Rows of `width` elements that make a block.
std::int64_t block_rows(std::int64_t width) {
  return std::max<std::int64_t>(1, kBlockElements / width);
}

torch::ScalarType product_format(const torch::Tensor& operand) {
  return operand.scalar_type() == torch::kFloat16 ? torch::kFloat32 : operand.scalar_type();
}

LossShape shape_of(const torch::Tensor& hidden, const torch::Tensor& weight) {
  return {.rows = hidden.size(0),
          .vocab_size = weight.size(0),
          .width = weight.size(1),
          .number_bytes = static_cast<std::int64_t>(torch::elementSize(product_format(hidden)))};
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

/// Gradients of the loss; undefined where none is wanted.
struct Gradients {
  torch::Tensor of_hidden;  ///< [N, d] in the products' format
  torch::Tensor of_weight;  ///< [V, d] in the products' format; of several chunks in fp32
};

/// One way through all rows.
class LossPass {
 public:
  LossPass(const torch::Tensor& hidden, const torch::Tensor& weight, const torch::Tensor& targets,
           std::int64_t rows_max)
      : hidden_(hidden), weight_(weight), targets_(targets), format_(product_format(hidden)) {
    // Chunks of equal size: a short last one would be as dear as a whole one.
    const std::int64_t rows = hidden.size(0);
    chunks_ = (rows + rows_max - 1) / rows_max;
    chunk_rows_ = (rows + chunks_ - 1) / chunks_;
  }

  void want_gradients(bool of_hidden, bool of_weight) {
    const torch::TensorOptions options = hidden_.options().dtype(format_);
    if (of_hidden) gradients_.of_hidden = torch::empty(hidden_.sizes(), options);
    if (of_weight) {
      const bool in_fp32 = chunks_ > 1 && shape_of(hidden_, weight_).has_narrow_numbers();
      gradients_.of_weight =
          torch::empty(weight_.sizes(), in_fp32 ? options.dtype(torch::kFloat32) : options);
    }
  }

  /// The loss of every row.
  torch::Tensor run() {
    const torch::TensorOptions options = hidden_.options();
    const torch::Tensor losses = torch::empty({hidden_.size(0)}, options.dtype(torch::kFloat32));
    const torch::Tensor room = torch::empty({chunk_rows_, weight_.size(0)}, options.dtype(format_));
    for_each_run(hidden_.size(0), chunk_rows_, [&](std::int64_t begin, std::int64_t count) {
      const torch::Tensor x = hidden_.narrow(0, begin, count).to(format_);
      const torch::Tensor logits = room.narrow(0, 0, count);
      make_logits(logits, x);
      turn_to_gradients(logits, targets_.narrow(0, begin, count), losses.narrow(0, begin, count));
      if (gradients_.of_hidden.defined()) {
        make_gradient_of_hidden(gradients_.of_hidden.narrow(0, begin, count), logits);
      }
      if (gradients_.of_weight.defined()) add_gradient_of_weight(logits, x, begin == 0);
    });
    return losses;
  }

  Gradients take_gradients() { return std::move(gradients_); }

 private:
  /// Calls `visit(first row of the weight, rows in the products' format)`: all, or some at a time
  /// where they have to be converted.
  template <class Visit>
  void for_weight_rows(Visit visit) const {
    const bool as_they_are = weight_.scalar_type() == format_;
    for_each_run(weight_.size(0), as_they_are ? weight_.size(0) : block_rows(weight_.size(1)),
                 [&](std::int64_t begin, std::int64_t count) {
                   visit(begin, weight_.narrow(0, begin, count).to(format_));
                 });
  }

  void make_logits(torch::Tensor logits, const torch::Tensor& x) const {
    for_weight_rows([&](std::int64_t begin, const torch::Tensor& weight) {
      torch::Tensor columns = logits.narrow(1, begin, weight.size(0));
      torch::mm_out(columns, x, weight.t());
    });
  }

  /// Puts g where the logits were, if it is wanted.
  void turn_to_gradients(const torch::Tensor& logits, const torch::Tensor& targets,
                         const torch::Tensor& losses) const {
    const bool wanted = gradients_.of_hidden.defined() || gradients_.of_weight.defined();
    for_each_run(
        logits.size(0), block_rows(logits.size(1)), [&](std::int64_t begin, std::int64_t count) {
          const torch::Tensor rows = logits.narrow(0, begin, count);
          const torch::Tensor values = rows.to(torch::kFloat32);
          const torch::Tensor columns = targets.narrow(0, begin, count).unsqueeze(1);
          losses.narrow(0, begin, count)
              .copy_(torch::log_softmax(values, 1).gather(1, columns).squeeze(1).neg());
          if (!wanted) return;
          torch::Tensor gradient = torch::softmax(values, 1);
          gradient.scatter_add_(1, columns, torch::full_like(columns, -1, gradient.options()));
          rows.copy_(gradient.mul_(1.0 / static_cast<double>(hidden_.size(0))));
        });
  }

  void make_gradient_of_hidden(torch::Tensor of_hidden, const torch::Tensor& g) const {
    for_weight_rows([&](std::int64_t begin, const torch::Tensor& weight) {
      const torch::Tensor columns = g.narrow(1, begin, weight.size(0));
      if (begin == 0) {
        torch::mm_out(of_hidden, columns, weight);
      } else {
        of_hidden.addmm_(columns, weight);
      }
    });
  }

  void add_gradient_of_weight(const torch::Tensor& g, const torch::Tensor& x, bool is_first) {
    torch::Tensor& sum = gradients_.of_weight;
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

  const torch::Tensor &hidden_, &weight_, &targets_;
  const torch::ScalarType format_;
  std::int64_t chunks_, chunk_rows_;
  Gradients gradients_;
};

/// gradient * factor in fp32, rounded to `format` once; in the gradient's own memory where
/// `may_reuse` allows it.
torch::Tensor scaled(torch::Tensor gradient, const torch::Tensor& factor, torch::ScalarType format,
                     bool may_reuse) {
  if (gradient.scalar_type() == format) {
    if (may_reuse && factor.item<float>() == 1.0F) return gradient;
    return may_reuse ? gradient.mul_(factor) : gradient * factor;
  }
  const torch::Tensor result = torch::empty(gradient.sizes(), gradient.options().dtype(format));
  for_each_run(gradient.size(0), block_rows(gradient.size(1)),
               [&](std::int64_t begin, std::int64_t count) {
                 result.narrow(0, begin, count).copy_(gradient.narrow(0, begin, count) * factor);
               });
  return result;
}

class LinearCrossEntropy : public torch::autograd::Function<LinearCrossEntropy> {
 public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& hidden,
                               const torch::Tensor& weight, const torch::Tensor& targets,
                               bool wants_hidden, bool wants_weight, std::int64_t chunk_rows) {
    LossPass pass(hidden, weight, targets, chunk_rows);
    pass.want_gradients(wants_hidden, wants_weight);
    const torch::Tensor losses = pass.run();
    Gradients gradients = pass.take_gradients();
    context->saved_data["format"] = hidden.scalar_type();
    if (wants_hidden) context->saved_data["hidden"] = std::move(gradients.of_hidden);
    if (wants_weight) context->saved_data["weight"] = std::move(gradients.of_weight);
    return mean_in_order(losses);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    if (torch::GradMode::is_enabled()) {
      throw UsageError(
          "a gradient of a gradient (create_graph) was asked for through linear_cross_entropy, "
          "which does not exist: what its backward gives is not recorded");
    }
    const auto format = context->saved_data.find("format");
    if (format == context->saved_data.end()) {
      throw UsageError(
          "backward goes through linear_cross_entropy a second time, but the first one has "
          "released the gradients that forward made; pass retain_graph to the first one");
    }
    const bool is_last = !torch::autograd::get_current_graph_task_keep_graph();
    const auto gradient_of = [&](const char* name, std::size_t argument) {
      const auto saved = context->saved_data.find(name);
      if (saved == context->saved_data.end() || !context->needs_input_grad(argument)) {
        return torch::Tensor();
      }
      torch::Tensor gradient =
          is_last ? std::move(saved->second).toTensor() : saved->second.toTensor();
      return scaled(std::move(gradient), gradients[0], format->second.toScalarType(),
                    /*may_reuse=*/is_last);
    };
    variable_list result(6);  // one for every argument of forward
    result[0] = gradient_of("hidden", 0);
    result[1] = gradient_of("weight", 1);
    if (is_last) context->saved_data.clear();
    return result;
  }
};

std::string described(const torch::Tensor& tensor) {
  std::string text = std::string(tensor.dtype().name()) + " [";
  for (std::int64_t i = 0; i < tensor.dim(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(tensor.size(i));
  }
  return text + "]";
}

}  // namespace

torch::Tensor linear_cross_entropy(const torch::Tensor& hidden, const torch::Tensor& weight,
                                   const torch::Tensor& targets,
                                   std::optional<std::int64_t> chunk_rows) {
  if (hidden.dim() != 2 || weight.dim() != 2 || targets.dim() != 1 ||
      hidden.size(1) != weight.size(1) || hidden.size(0) != targets.size(0) ||
      hidden.numel() == 0 || weight.numel() == 0 || !hidden.is_floating_point() ||
      hidden.scalar_type() != weight.scalar_type() || targets.scalar_type() != torch::kInt64) {
    throw UsageError(
        "linear_cross_entropy needs hidden [N, d] and weight [V, d] of one floating format, and "
        "int64 targets [N], with N, V and d at least 1; it was given " +
        described(hidden) + ", " + described(weight) + " and " + described(targets));
  }
  const std::int64_t rows = chunk_rows ? *chunk_rows : loss_chunk_rows(shape_of(hidden, weight));
  if (rows < 1) {
    throw UsageError("linear_cross_entropy takes at least 1 row at a time, not " +
                     std::to_string(rows));
  }
  const bool records = torch::GradMode::is_enabled();
  return LinearCrossEntropy::apply(hidden, weight, targets, records && hidden.requires_grad(),
                                   records && weight.requires_grad(), rows);
}

}  // namespace strata::models
