#pragma once

#include <string_view>
#include <vector>

namespace strata::optim_cpu {

struct KernelTable;

/// The instruction set that the optimizer's kernels run on. All give the same bits, so naming one
/// is for measuring. A small value, handed in with the threads that do the arithmetic
/// (ComputeThreads).
class InstructionSet {
 public:
  /// The best of this machine, unless the environment variable STRATA_SIMD names another; it is
  /// read once. Throws ConfigError when it names one that this machine lacks.
  InstructionSet();
  /// The one of that name; "": as above. Throws ConfigError, with the names that this machine has,
  /// for any other.
  explicit InstructionSet(std::string_view name);

  [[nodiscard]] std::string_view name() const;
  [[nodiscard]] const KernelTable& kernels() const { return *kernels_; }

  /// Names of those that this machine can run, best first ("AVX3", "AVX2", "SCALAR").
  [[nodiscard]] static std::vector<std::string_view> names();

 private:
  const KernelTable* kernels_;  // in the table that lasts as long as the process
};

}  // namespace strata::optim_cpu
