#include "models/linear_cross_entropy.h"

#include <cstddef>
#include <string>
#include <utility>

#include "models/head_products.h"
#include "models/loss_chunks.h"
#include "models/loss_rows.h"
#include "models/ordered_mean.h"
#include "models/second_gradient.h"
#include "models/soft_cap.h"
#include "strata/base/error.h"

namespace strata::models {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Gradients of the loss; undefined where none is wanted.
struct Gradients {
  torch::Tensor of_hidden;  ///< [N, d] in the products' format
  torch::Tensor of_weight;  ///< [V, d] in the products' format; of several chunks in fp32
  torch::Tensor of_bias;    ///< [V] in fp32
};

/// One way through all rows.
class LossPass {
 public:
  LossPass(const torch::Tensor& hidden, const torch::Tensor& weight, const torch::Tensor& targets,
           std::int64_t rows_max, std::optional<double> soft_cap, double divisor)
      : targets_(targets),
        divisor_(divisor),
        products_(hidden, weight, rows_max),
        soft_cap_(soft_cap) {}

  /// The logits have this bias too.
  void add_bias(const torch::Tensor& bias, bool wants_gradient) {
    bias_ = bias.to(torch::kFloat32);
    if (wants_gradient) gradients_.of_bias = torch::zeros_like(bias_);
  }

  void want_gradients(bool of_hidden, bool of_weight) {
    if (of_hidden) gradients_.of_hidden = products_.room_for_hidden();
    if (of_weight) gradients_.of_weight = products_.room_for_weight();
  }

  /// The loss of every row.
  torch::Tensor run() {
    const torch::Tensor losses =
        torch::empty(targets_.sizes(), targets_.options().dtype(torch::kFloat32));
    products_.for_each_chunk(products_.room_for_logits(), [&](std::int64_t begin,
                                                              const torch::Tensor& x,
                                                              const torch::Tensor& logits) {
      const std::int64_t count = x.size(0);
      turn_to_gradients(logits, targets_.narrow(0, begin, count), losses.narrow(0, begin, count));
      if (gradients_.of_hidden.defined()) {
        products_.make_gradient_of_hidden(gradients_.of_hidden.narrow(0, begin, count), logits);
      }
      if (gradients_.of_weight.defined()) {
        products_.add_gradient_of_weight(gradients_.of_weight, logits, x, begin == 0);
      }
    });
    return losses;
  }

  Gradients take_gradients() { return std::move(gradients_); }

 private:
  /// Puts g where the logits were, if it is wanted.
  void turn_to_gradients(const torch::Tensor& logits, const torch::Tensor& targets,
                         const torch::Tensor& losses) const {
    const bool wanted = gradients_.of_hidden.defined() || gradients_.of_weight.defined() ||
                        gradients_.of_bias.defined();
    for_each_run(
        logits.size(0), block_rows(logits.size(1)), [&](std::int64_t begin, std::int64_t count) {
          const torch::Tensor rows = logits.narrow(0, begin, count);
          const torch::Tensor wide = rows.to(torch::kFloat32);
          const torch::Tensor values =
              soft_capped(bias_.defined() ? wide + bias_ : wide, soft_cap_);
          const torch::Tensor columns = targets.narrow(0, begin, count).unsqueeze(1);
          losses.narrow(0, begin, count)
              .copy_(torch::log_softmax(values, 1).gather(1, columns).squeeze(1).neg());
          if (!wanted) return;
          torch::Tensor gradient = torch::softmax(values, 1);
          gradient.scatter_add_(1, columns, torch::full_like(columns, -1, gradient.options()));
          through_soft_cap(gradient, values, soft_cap_);
          gradient.mul_(1.0 / divisor_);
          if (gradients_.of_bias.defined()) gradients_.of_bias.add_(gradient.sum(0));
          rows.copy_(gradient);
        });
  }

  const torch::Tensor& targets_;
  double divisor_;
  HeadProducts products_;
  std::optional<double> soft_cap_;
  torch::Tensor bias_;  ///< in fp32; undefined: there is none
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
  if (gradient.dim() == 1) return (gradient * factor).to(format);
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
                               const std::optional<torch::Tensor>& bias, bool wants_hidden,
                               bool wants_weight, bool wants_bias, std::int64_t chunk_rows,
                               std::optional<double> soft_cap, double divisor) {
    LossPass pass(hidden, weight, targets, chunk_rows, soft_cap, divisor);
    if (bias) pass.add_bias(*bias, wants_bias);
    pass.want_gradients(wants_hidden, wants_weight);
    const torch::Tensor losses = pass.run();
    Gradients gradients = pass.take_gradients();
    context->saved_data["format"] = hidden.scalar_type();
    if (wants_hidden) context->saved_data["hidden"] = std::move(gradients.of_hidden);
    if (wants_weight) context->saved_data["weight"] = std::move(gradients.of_weight);
    if (wants_bias) context->saved_data["bias"] = std::move(gradients.of_bias);
    return mean_in_order(losses, divisor);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    refuse_second_gradient("linear_cross_entropy");
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
    variable_list result(10);  // one for every argument of forward
    result[0] = gradient_of("hidden", 0);
    result[1] = gradient_of("weight", 1);
    result[3] = gradient_of("bias", 3);
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
                                   std::optional<std::int64_t> chunk_rows,
                                   std::optional<double> soft_cap, const torch::Tensor& bias,
                                   std::optional<double> divisor) {
  if (hidden.dim() != 2 || weight.dim() != 2 || targets.dim() != 1 ||
      hidden.size(1) != weight.size(1) || hidden.size(0) != targets.size(0) ||
      hidden.numel() == 0 || weight.numel() == 0 || !hidden.is_floating_point() ||
      hidden.scalar_type() != weight.scalar_type() || targets.scalar_type() != torch::kInt64) {
    throw UsageError(
        "linear_cross_entropy needs hidden [N, d] and weight [V, d] of one floating format, and "
        "int64 targets [N], with N, V and d at least 1; it was given " +
        described(hidden) + ", " + described(weight) + " and " + described(targets));
  }
  if (bias.defined() && (bias.dim() != 1 || bias.size(0) != weight.size(0) ||
                         bias.scalar_type() != weight.scalar_type())) {
    throw UsageError(
        "linear_cross_entropy needs a bias [V] in the format of the weight; it was given " +
        described(bias) + " beside " + described(weight));
  }
  const LossRows bearing = loss_rows(hidden, targets, divisor);
  const std::int64_t rows =
      chunk_rows ? *chunk_rows : loss_chunk_rows(HeadProducts::shape_of(bearing.hidden, weight));
  if (rows < 1) {
    throw UsageError("linear_cross_entropy takes at least 1 row at a time, not " +
                     std::to_string(rows));
  }
  const bool records = torch::GradMode::is_enabled();
  // An argument of a function that is recorded must not be undefined.
  const std::optional<torch::Tensor> given =
      bias.defined() ? std::make_optional(bias) : std::nullopt;
  return LinearCrossEntropy::apply(
      bearing.hidden, weight, bearing.targets, given, records && hidden.requires_grad(),
      records && weight.requires_grad(), records && given && bias.requires_grad(), rows, soft_cap,
      bearing.divisor);
}

}  // namespace strata::models
