#pragma once

#include <array>
#include <optional>
#include <tuple>

#include "strata/base/log.h"
#include "strata/base/number_format.h"
#include "strata/tiering/budget.h"
#include "strata/tiering/host_arena.h"
#include "strata/zero3/sharding.h"
#include "zero3/state_stream.h"
#include "zero3/unit.h"

namespace strata::zero3 {

/// Checks the module's own values: throws what `place` throws for them, without touching a home.
void check_initial_values(const Unit& unit);

/// Brings a new unit's values to their homes, parameter by parameter: from the module's own tensors
/// or from an initializer, as fp32 masters split into weight and remainder. Memory: one parameter
/// in fp32, and for homes that are elsewhere staging buffers of at most 4 chunks (6 where
/// parameters are kept in fp32) that are charged to the host budget as long as this object lives.
/// Optimizer moments need nothing: homes start as zeros.
class InitialPlacement {
 public:
  /// `format` is the run's; `keeps_fp32`: units may keep parameters in fp32 beside it;
  /// `needs_staging`: homes are elsewhere.
  InitialPlacement(const StateFormat& format, bool keeps_fp32, bool needs_staging,
                   const StatePassage& passage, tiering::Budget& host, Logger& log);

  /// Places a unit: its homes are set, its parameters still hold their initial values (or none, on
  /// the meta device). Throws what checked_masters (parameter_values.h) throws, what the
  /// initializer throws, IoError. The unit's homes then hold nothing of use.
  void place(Unit& unit, const ParameterInitializer& initializer);

 private:
  StatePassage passage_;
  std::optional<tiering::HostArena> arena_;
  /// Staging for each of a unit's vectors: their parameters come in turn.
  std::array<StagingBuffers, std::tuple_size_v<FlatVectors>> staging_;
};

}  // namespace strata::zero3
