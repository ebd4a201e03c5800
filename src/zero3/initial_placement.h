#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <optional>

#include "strata/base/log.h"
#include "strata/base/number_format.h"
#include "strata/tiering/budget.h"
#include "strata/tiering/host_arena.h"
#include "strata/tiering/shard_store.h"
#include "zero3/unit.h"

namespace strata::zero3 {

/// Brings a new unit's values to their homes, parameter by parameter: from the module's own tensors
/// or from an initializer, as fp32 masters split into weight and remainder. Memory: one parameter
/// in fp32, and for homes on nvme a staging buffer of at most 3 chunks that is charged to the host
/// budget as long as this object lives. Optimizer moments need nothing: homes start as zeros.
class InitialPlacement {
 public:
  /// `store` is null when nothing rests on nvme.
  InitialPlacement(const StateFormat& format, tiering::ShardStore* store, tiering::Budget& host,
                   Logger& log);

  /// The unit's homes are set; its parameters still hold their initial values (or none, on the meta
  /// device). Throws UsageError for a parameter on the meta device without an initializer; what the
  /// initializer throws; IoError.
  void place(Unit& unit, const ParameterInitializer& initializer);

 private:
  class VectorWriter;

  StateFormat format_;
  tiering::ShardStore* store_;
  std::uint64_t piece_elements_ = 0;
  std::optional<tiering::HostArena> arena_;
  std::span<std::byte> weight_staging_, master_staging_;
};

}  // namespace strata::zero3
