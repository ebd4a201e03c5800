#pragma once

#include <cstdint>
#include <optional>

#include "strata/base/log.h"
#include "strata/optim_cpu/compute_threads.h"
#include "strata/tiering/budget.h"
#include "strata/tiering/host_arena.h"
#include "strata/tiering/slot_pool.h"
#include "strata/zero3/sharding.h"
#include "zero3/master_writer.h"
#include "zero3/state_stream.h"
#include "zero3/unit.h"

namespace strata::zero3 {

/// Checks the module's own values: throws what `place` throws for them, without touching a home.
void check_initial_values(const Unit& unit);

/// Brings a new unit's values to their homes, parameter by parameter: from the module's own tensors
/// or from an initializer, as fp32 masters split into weight and remainder (MasterWriter). Memory:
/// one parameter in fp32, or a block for each thread where a RangedInitializer gives the values;
/// and for homes that are elsewhere staging buffers, which are charged to the host budget as long
/// as this object lives. Optimizer moments need nothing: homes start as zeros.
class InitialPlacement {
 public:
  InitialPlacement(const StatePassage& passage, optim_cpu::ComputeThreads& threads,
                   tiering::Budget& host, Logger& log)
      : passage_(passage), threads_(threads), host_(host), log_(log) {}

  /// Places a unit: its homes are set, its parameters still hold their initial values (or none, on
  /// the meta device). `staging_bytes`: what its buffers may take; a chunk for each of its homes
  /// they take in any case. All values are at home when it returns. Throws what checked_masters
  /// (parameter_values.h) throws, what the initializer throws, IoError, DeadlineExceeded,
  /// BudgetError. The unit's homes then hold nothing of use, and no write is under way.
  void place(Unit& unit, const ParameterInitializer& initializer, std::uint64_t staging_bytes);

 private:
  void take_staging(const Unit& unit, std::uint64_t bytes);

  StatePassage passage_;
  optim_cpu::ComputeThreads& threads_;
  tiering::Budget& host_;
  Logger& log_;
  std::optional<tiering::HostArena> arena_;
  std::optional<tiering::SlotPool> slots_;
  BlockScratch scratch_;
};

}  // namespace strata::zero3
