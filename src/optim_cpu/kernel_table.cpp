#include "optim_cpu/kernel_table.h"

#include "optim_cpu/highway_targets.h"
//
#include <hwy/targets.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "optim_cpu/reference_kernels.h"
#include "strata/base/error.h"
#include "strata/optim_cpu/instruction_set.h"

namespace strata::optim_cpu {

// The *_kernels.cpp compile their kernels once for each of these. Highway's own dispatch tables
// know one chosen target per process; the tests want all of them.
#define STRATA_DECLARE_KERNELS(target)                      \
  namespace target {                                        \
  void adam(const AdamConstants&, const UpdateSpan&);       \
  void sgd(const SgdConstants&, const UpdateSpan&);         \
  void adagrad(const AdagradConstants&, const UpdateSpan&); \
  void lion(const LionConstants&, const UpdateSpan&);       \
  void accumulate(const AccumulateSpan&, double*);          \
  void add_in_order(const AddSpan&);                        \
  void normal_numbers(const NormalSpan&);                   \
  }
#define STRATA_KERNELS_OF(name, target)                                                 \
  KernelTable {                                                                         \
    name, target::adam, target::sgd, target::adagrad, target::lion, target::accumulate, \
        target::add_in_order, target::normal_numbers                                    \
  }

STRATA_DECLARE_KERNELS(N_AVX3)
STRATA_DECLARE_KERNELS(N_AVX2)
STRATA_DECLARE_KERNELS(N_NEON)

namespace {

std::vector<KernelTable> list_supported_kernels() {
  [[maybe_unused]] const std::int64_t supported = hwy::SupportedTargets();
  std::vector<KernelTable> tables;
#if HWY_TARGETS & HWY_AVX3
  if (supported & HWY_AVX3) tables.push_back(STRATA_KERNELS_OF("AVX3", N_AVX3));
#endif
#if HWY_TARGETS & HWY_AVX2
  if (supported & HWY_AVX2) tables.push_back(STRATA_KERNELS_OF("AVX2", N_AVX2));
#endif
#if HWY_TARGETS & HWY_NEON
  if (supported & HWY_NEON) tables.push_back(STRATA_KERNELS_OF("NEON", N_NEON));
#endif
  tables.push_back({"SCALAR", reference::update, reference::update, reference::update,
                    reference::update, reference::accumulate, reference::add_in_order,
                    reference::normal_numbers});
  return tables;
}

struct RunRule {
  const KernelTable& kernels;
  const UpdateSpan& span;

  void operator()(const AdamConstants& constants) const { kernels.adam(constants, span); }
  void operator()(const SgdConstants& constants) const { kernels.sgd(constants, span); }
  void operator()(const AdagradConstants& constants) const { kernels.adagrad(constants, span); }
  void operator()(const LionConstants& constants) const { kernels.lion(constants, span); }
};

}  // namespace

void KernelTable::update(const RuleConstants& constants, const UpdateSpan& span) const {
  std::visit(RunRule{*this, span}, constants);
}

std::span<const KernelTable> supported_kernels() {
  static const std::vector<KernelTable> tables = list_supported_kernels();
  return tables;
}

const KernelTable& find_kernels(std::string_view target, std::string_view origin) {
  const std::span<const KernelTable> tables = supported_kernels();
  if (target.empty()) return tables.front();
  std::string names;
  for (const KernelTable& table : tables) {
    if (table.target == target) return table;
    names.append(names.empty() ? "" : ", ").append(table.target);
  }
  throw ConfigError(std::string(origin) + " names the instruction set \"" + std::string(target) +
                    "\", which this machine or build lacks; it has " + names +
                    ". Unset it to use the best");
}

InstructionSet::InstructionSet() {
  static const KernelTable& chosen = [&]() -> const KernelTable& {
    const char* name = std::getenv("STRATA_SIMD");
    return find_kernels(name == nullptr ? "" : name, "STRATA_SIMD");
  }();
  kernels_ = &chosen;
}

InstructionSet::InstructionSet(std::string_view name)
    : kernels_(name.empty() ? InstructionSet().kernels_ : &find_kernels(name, "\"simd\"")) {}

std::string_view InstructionSet::name() const { return kernels_->target; }

std::vector<std::string_view> InstructionSet::names() {
  std::vector<std::string_view> names;
  for (const KernelTable& table : supported_kernels()) names.push_back(table.target);
  return names;
}

}  // namespace strata::optim_cpu
