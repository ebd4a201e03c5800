#pragma once

#include <span>
#include <string_view>

#include "optim_cpu/adam_constants.h"
#include "optim_cpu/kernel_spans.h"

namespace strata::optim_cpu {

/// The kernels of one instruction set. All sets give the same bits.
struct KernelTable {
  std::string_view target;
  void (*adam)(const AdamConstants& constants, const AdamSpan& span);
  /// Adds source to target, and the squares of the result to `lanes`.
  void (*accumulate)(const AccumulateSpan& span, SumLanes& lanes);
};

/// Those that this machine can run, best first. The last is the reference, "SCALAR".
[[nodiscard]] std::span<const KernelTable> supported_kernels();

/// The entry called `target`; the best where that is empty. Throws ConfigError when this machine
/// has none of that name.
[[nodiscard]] const KernelTable& find_kernels(std::string_view target);

/// What the environment variable STRATA_SIMD names, or else the best. Read at the first call.
[[nodiscard]] const KernelTable& chosen_kernels();

}  // namespace strata::optim_cpu
