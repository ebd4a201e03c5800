#include "optim_cpu/kernel_table.h"

#include "optim_cpu/highway_targets.h"

// Highway includes this file again for every instruction set that it compiles for.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "optim_cpu/kernel_table.cpp"
#include "hwy/foreach_target.h"
//
#include "hwy/highway.h"
#include "optim_cpu/accumulate_kernels-inl.h"
#include "optim_cpu/adam_kernels-inl.h"

#if HWY_ONCE

#include <cstdlib>
#include <string>
#include <vector>

#include "optim_cpu/reference_kernels.h"
#include "strata/base/error.h"

namespace strata::optim_cpu {
namespace {

// Highway's own dispatch tables know one chosen target per process; the tests want all of them.
std::vector<KernelTable> list_supported_kernels() {
  [[maybe_unused]] const std::int64_t supported = hwy::SupportedTargets();
  std::vector<KernelTable> tables;
#if HWY_TARGETS & HWY_AVX3_DL
  if (supported & HWY_AVX3_DL)
    tables.push_back({"AVX3_DL", N_AVX3_DL::adam, N_AVX3_DL::accumulate});
#endif
#if HWY_TARGETS & HWY_AVX3
  if (supported & HWY_AVX3) tables.push_back({"AVX3", N_AVX3::adam, N_AVX3::accumulate});
#endif
#if HWY_TARGETS & HWY_AVX2
  if (supported & HWY_AVX2) tables.push_back({"AVX2", N_AVX2::adam, N_AVX2::accumulate});
#endif
#if HWY_TARGETS & HWY_NEON
  if (supported & HWY_NEON) tables.push_back({"NEON", N_NEON::adam, N_NEON::accumulate});
#endif
  tables.push_back({"SCALAR", reference::adam, reference::accumulate});
  return tables;
}

}  // namespace

std::span<const KernelTable> supported_kernels() {
  static const std::vector<KernelTable> tables = list_supported_kernels();
  return tables;
}

const KernelTable& find_kernels(std::string_view target) {
  const std::span<const KernelTable> tables = supported_kernels();
  if (target.empty()) return tables.front();
  std::string names;
  for (const KernelTable& table : tables) {
    if (table.target == target) return table;
    names.append(names.empty() ? "" : ", ").append(table.target);
  }
  throw ConfigError("STRATA_SIMD names the instruction set \"" + std::string(target) +
                    "\", which this machine or build lacks; it has " + names +
                    ". Unset it to use the best");
}

const KernelTable& chosen_kernels() {
  static const KernelTable& chosen = [&]() -> const KernelTable& {
    const char* name = std::getenv("STRATA_SIMD");
    return find_kernels(name == nullptr ? "" : name);
  }();
  return chosen;
}

}  // namespace strata::optim_cpu

#endif  // HWY_ONCE
