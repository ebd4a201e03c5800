#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "point.h"
#include "strata/aio/backend.h"

namespace strata::nvme_bench {

/// The next request, as a block of a thread's part.
struct Access {
  aio::OpKind kind;
  std::uint64_t block;
};

/// Chooses the block that a thread moves next, and its direction: the workload, made of block
/// numbers. Never names a block that is in flight when one of the two is written.
class AccessPattern {
 public:
  /// The pattern of a part of `blocks` blocks, at least 1; 12 for a training step (see check_fits).
  AccessPattern(Workload workload, std::uint64_t blocks, std::uint32_t depth,
                std::uint64_t block_bytes, std::uint64_t seed);

  /// Returns nullopt while every block is in flight. A returned one is in flight until `finished`.
  [[nodiscard]] std::optional<Access> next();
  void finished(std::uint64_t block);

 private:
  [[nodiscard]] Access choose();
  [[nodiscard]] Access choose_of_train_step();
  [[nodiscard]] std::uint64_t random_block();

  const Workload workload_;
  const std::uint64_t blocks_;
  const bool writes_;
  std::uint64_t random_state_;
  std::uint64_t count_ = 0;  // requests so far
  std::uint64_t next_read_ = 0;
  std::uint64_t next_write_ = 0;
  std::vector<bool> in_flight_;  // empty for workloads that only read
  std::uint64_t in_flight_count_ = 0;

  // The part is stepped through in slices of 12 units of blocks, 2 of them weights.
  std::uint64_t unit_blocks_ = 0;
  std::uint64_t slice_begin_ = 0;
  std::uint64_t in_slice_ = 0;  // requests of this slice so far, of 26 units
};

}  // namespace strata::nvme_bench
