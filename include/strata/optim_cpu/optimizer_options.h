#pragma once

#include <variant>

/// \file
/// Hyperparameters of the optimizers. Doubles, as in LibTorch; a group of parameters has one of
/// these. `p` is the fp32 master, `g` the gradient after `gradient_scale`, `t` the step from 1.

namespace strata::optim {

/// Adam and AdamW, with the operations of torch::optim::Adam and ::AdamW in their order (Kingma and
/// Ba, "Adam", algorithm 1; Loshchilov and Hutter, "Decoupled Weight Decay Regularization",
/// algorithm 2):
///
///   AdamW: p -= lr * weight_decay * p      Adam: g += weight_decay * p
///   m = beta1 * m + (1 - beta1) * g
///   v = beta2 * v + (1 - beta2) * g^2
///   p -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
struct AdamOptions {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.0;
  bool decoupled_weight_decay = true;  ///< AdamW; false: Adam with L2
  bool bias_correction = true;
};

/// SGD as torch::optim::SGD has it (Sutskever et al., 2013, as amended there). Keeps m only with
/// momentum.
///
///   g += weight_decay * p
///   m = momentum * m + (1 - dampening) * g,  m = g in the first step
///   p -= lr * (nesterov ? g + momentum * m : m)
struct SgdOptions {
  double lr = 1e-3;
  double momentum = 0.0;
  double dampening = 0.0;
  double weight_decay = 0.0;
  bool nesterov = false;  ///< takes momentum and no dampening
};

/// Adagrad as torch::optim::Adagrad has it (Duchi, Hazan and Singer, 2011), from v = 0. Keeps only
/// v.
///
///   g += weight_decay * p
///   v += g^2
///   p -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(v) + eps)
struct AdagradOptions {
  double lr = 1e-2;
  double lr_decay = 0.0;
  double eps = 1e-10;
  double weight_decay = 0.0;
};

/// Lion (Chen et al., "Symbolic Discovery of Optimization Algorithms", program 1). Keeps only m.
///
///   p -= lr * weight_decay * p
///   p -= lr * sign(beta1 * m + (1 - beta1) * g)
///   m = beta2 * m + (1 - beta2) * g
struct LionOptions {
  double lr = 1e-4;
  double beta1 = 0.9;
  double beta2 = 0.99;
  double weight_decay = 0.0;
};

using OptimizerOptions = std::variant<AdamOptions, SgdOptions, AdagradOptions, LionOptions>;

/// Whether the optimizer keeps a first moment.
[[nodiscard]] bool keeps_m(const OptimizerOptions& options);
/// Whether the optimizer keeps a second moment.
[[nodiscard]] bool keeps_v(const OptimizerOptions& options);

/// Throws ConfigError for a hyperparameter outside the range that its formula allows, or that is
/// not finite, with its name, value and range.
void check(const OptimizerOptions& options);

}  // namespace strata::optim
