#pragma once

#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <vector>

#include "strata/optim_cpu/update.h"

namespace strata::optim_cpu {

struct NamedOptimizer {
  std::string name;
  OptimizerOptions options;
};

/// Every rule, and every branch of its formula.
inline std::vector<NamedOptimizer> all_optimizers() {
  return {
      {"adamw", AdamOptions{.lr = 3e-3, .weight_decay = 0.05}},
      {"adam_l2", AdamOptions{.lr = 3e-3,
                              .weight_decay = 0.05,
                              .decoupled_weight_decay = false,
                              .bias_correction = false}},
      {"sgd", SgdOptions{.lr = 3e-3}},
      {"sgd_momentum",
       SgdOptions{.lr = 3e-3, .momentum = 0.9, .dampening = 0.1, .weight_decay = 0.05}},
      {"sgd_nesterov", SgdOptions{.lr = 3e-3, .momentum = 0.9, .nesterov = true}},
      {"adagrad", AdagradOptions{.lr = 3e-3, .lr_decay = 0.01, .weight_decay = 0.05}},
      {"lion", LionOptions{.lr = 3e-4, .weight_decay = 0.05}},
  };
}

/// Formats of the weight and what is kept beside it.
inline std::vector<StateFormat> all_masters() {
  StateFormat bits24 = Precision::kBf16;
  bits24.master = MasterFormat::k24Bit;
  return {Precision::kFp32, Precision::kBf16, bits24, Precision::kFp16};
}

inline std::string master_name(const StateFormat& format) {
  return std::string(name_of(format.precision)) +
         (format.master == MasterFormat::k24Bit ? "_24bit" : "");
}

/// An optimizer, and the format of its moments.
struct Variant {
  friend void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.name(); }
  [[nodiscard]] std::string name() const {
    return optimizer.name + "_" + std::string(name_of(moments)) + "_moments";
  }

  NamedOptimizer optimizer;
  MomentFormat moments;
};

inline std::vector<Variant> all_variants() {
  std::vector<Variant> variants;
  for (const NamedOptimizer& optimizer : all_optimizers())
    for (const MomentFormat moments :
         {MomentFormat::kFp32, MomentFormat::kBf16, MomentFormat::kInt8})
      variants.push_back({optimizer, moments});
  return variants;
}

/// Calls `body(format, gradient_format)` for all formats that a variant's states may have.
template <class Body>
void for_each_format(const Variant& variant, const Body& body) {
  for (StateFormat format : all_masters())
    for (const Precision gradient : {Precision::kFp32, Precision::kBf16, Precision::kFp16}) {
      format.moments = variant.moments;
      format.has_m = optim::keeps_m(variant.optimizer.options);
      format.has_v = optim::keeps_v(variant.optimizer.options);
      SCOPED_TRACE(master_name(format) + ", gradient " + std::string(name_of(gradient)));
      body(format, gradient);
    }
}

}  // namespace strata::optim_cpu
