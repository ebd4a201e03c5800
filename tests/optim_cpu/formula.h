#pragma once

#include <cmath>

#include "strata/optim_cpu/optimizer_options.h"

/// \file
/// The formulas of optimizer_options.h in double, as they stand there: what the kernels' errors are
/// measured against.

namespace strata::optim_cpu {

/// One element.
struct Element {
  double p, g, m, v;
};

/// An updated element, and what the terms of its master would add up to if none of them cancelled:
/// what an error is relative to.
struct Exact {
  Element element;
  double size_of_terms;
};

inline Exact update_in_double(const optim::AdamOptions& o, double t, Element e) {
  const double correction1 = o.bias_correction ? 1 - std::pow(o.beta1, t) : 1;
  const double correction2 = o.bias_correction ? 1 - std::pow(o.beta2, t) : 1;
  const double p = e.p;
  double size_of_g = std::abs(e.g);
  if (o.decoupled_weight_decay) {
    e.p -= o.lr * o.weight_decay * e.p;
  } else {
    e.g += o.weight_decay * e.p;
    size_of_g += o.weight_decay * std::abs(p);
  }
  const double size_of_m = o.beta1 * std::abs(e.m) + (1 - o.beta1) * size_of_g;
  e.m = o.beta1 * e.m + (1 - o.beta1) * e.g;
  e.v = o.beta2 * e.v + (1 - o.beta2) * e.g * e.g;
  const double rate = o.lr / correction1 / (std::sqrt(e.v) / std::sqrt(correction2) + o.eps);
  e.p -= rate * e.m;
  return {e, std::abs(p) + rate * size_of_m};
}

inline Exact update_in_double(const optim::SgdOptions& o, double t, Element e) {
  const double p = e.p;
  const double size_of_g = std::abs(e.g) + o.weight_decay * std::abs(p);
  double size_of_step = size_of_g;
  e.g += o.weight_decay * e.p;
  if (o.momentum != 0) {
    const double share = t == 1 ? 1 : 1 - o.dampening;
    size_of_step = o.momentum * std::abs(e.m) + share * size_of_g;
    e.m = o.momentum * e.m + share * e.g;
    if (o.nesterov) size_of_step = size_of_g + o.momentum * size_of_step;
    e.g = o.nesterov ? e.g + o.momentum * e.m : e.m;
  }
  e.p -= o.lr * e.g;
  return {e, std::abs(p) + o.lr * size_of_step};
}

inline Exact update_in_double(const optim::AdagradOptions& o, double t, Element e) {
  const double p = e.p;
  const double size_of_g = std::abs(e.g) + o.weight_decay * std::abs(p);
  e.g += o.weight_decay * e.p;
  e.v += e.g * e.g;
  const double rate = o.lr / (1 + (t - 1) * o.lr_decay) / (std::sqrt(e.v) + o.eps);
  e.p -= rate * e.g;
  return {e, std::abs(p) + rate * size_of_g};
}

inline Exact update_in_double(const optim::LionOptions& o, double /*t*/, Element e) {
  const double p = e.p;
  e.p -= o.lr * o.weight_decay * e.p;
  const double direction = o.beta1 * e.m + (1 - o.beta1) * e.g;
  e.p -= o.lr * ((direction > 0) - (direction < 0));
  e.m = o.beta2 * e.m + (1 - o.beta2) * e.g;
  return {e, std::abs(p) + o.lr};
}

inline Exact update_in_double(const optim::OptimizerOptions& options, double t,
                              const Element& element) {
  return std::visit([&](const auto& given) { return update_in_double(given, t, element); },
                    options);
}

}  // namespace strata::optim_cpu
