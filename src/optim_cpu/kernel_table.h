#pragma once

#include <span>
#include <string_view>

#include "optim_cpu/kernel_spans.h"
#include "optim_cpu/normal_numbers.h"
#include "optim_cpu/rule_constants.h"

namespace strata::optim_cpu {

/// The kernels of one instruction set. All sets give the same bits.
struct KernelTable {
  std::string_view target;
  void (*adam)(const AdamConstants& constants, const UpdateSpan& span);
  void (*sgd)(const SgdConstants& constants, const UpdateSpan& span);
  void (*adagrad)(const AdagradConstants& constants, const UpdateSpan& span);
  void (*lion)(const LionConstants& constants, const UpdateSpan& span);
  /// Adds the contributions to target, and writes the sums of the squares of the result: one for
  /// each block of kGradientBlockElements, the last of which may be shorter.
  void (*accumulate)(const AccumulateSpan& span, double* block_sums);
  /// Adds gradients to their sum, from left to right.
  void (*add_in_order)(const AddSpan& span);
  /// Writes elements of a sequence of normal random numbers.
  void (*normal_numbers)(const NormalSpan& span);

  /// Updates by the rule of the given constants.
  void update(const RuleConstants& constants, const UpdateSpan& span) const;
};

/// The tables that this machine can run, best first. The last is the reference, "SCALAR".
[[nodiscard]] std::span<const KernelTable> supported_kernels();

/// The table called `target`; the best if that is empty. Throws ConfigError when this machine has
/// none of that name; `origin` says who asked ("STRATA_SIMD").
[[nodiscard]] const KernelTable& find_kernels(std::string_view target, std::string_view origin);

}  // namespace strata::optim_cpu
