#include "strata/optim_cpu/optimizer_options.h"

#include <cmath>
#include <sstream>
#include <string_view>

#include "strata/base/error.h"

namespace strata::optim {
namespace {

struct Bounds {
  double least, below;  ///< least <= value < below
  std::string_view text;
};
constexpr double kInfinity = HUGE_VAL;
constexpr Bounds kNotNegative{0, kInfinity, "finite and not negative"};
constexpr Bounds kBelowOne{0, 1, "at least 0 and below 1"};

void check(std::string_view optimizer, std::string_view name, double value, const Bounds& bounds) {
  if (value >= bounds.least && value < bounds.below) return;
  std::ostringstream out;
  out << optimizer << ": " << name << " is " << value << "; it must be " << bounds.text;
  throw ConfigError(out.str());
}

struct Check {
  void operator()(const AdamOptions& o) const {
    check("Adam", "lr", o.lr, kNotNegative);
    check("Adam", "beta1", o.beta1, kBelowOne);
    check("Adam", "beta2", o.beta2, kBelowOne);
    check("Adam", "eps", o.eps, kNotNegative);
    check("Adam", "weight_decay", o.weight_decay, kNotNegative);
  }
  void operator()(const SgdOptions& o) const {
    check("SGD", "lr", o.lr, kNotNegative);
    check("SGD", "momentum", o.momentum, kNotNegative);
    check("SGD", "dampening", o.dampening, kNotNegative);
    check("SGD", "weight_decay", o.weight_decay, kNotNegative);
    if (o.nesterov && (o.momentum == 0 || o.dampening != 0)) {
      throw ConfigError("SGD: nesterov takes a momentum above 0 and no dampening");
    }
  }
  void operator()(const AdagradOptions& o) const {
    check("Adagrad", "lr", o.lr, kNotNegative);
    check("Adagrad", "lr_decay", o.lr_decay, kNotNegative);
    check("Adagrad", "eps", o.eps, kNotNegative);
    check("Adagrad", "weight_decay", o.weight_decay, kNotNegative);
  }
  void operator()(const LionOptions& o) const {
    check("Lion", "lr", o.lr, kNotNegative);
    check("Lion", "beta1", o.beta1, kBelowOne);
    check("Lion", "beta2", o.beta2, kBelowOne);
    check("Lion", "weight_decay", o.weight_decay, kNotNegative);
  }
};

}  // namespace

bool keeps_m(const OptimizerOptions& options) {
  if (const auto* sgd = std::get_if<SgdOptions>(&options)) return sgd->momentum != 0;
  return !std::holds_alternative<AdagradOptions>(options);
}

bool keeps_v(const OptimizerOptions& options) {
  return std::holds_alternative<AdamOptions>(options) ||
         std::holds_alternative<AdagradOptions>(options);
}

void check(const OptimizerOptions& options) { std::visit(Check{}, options); }

}  // namespace strata::optim
