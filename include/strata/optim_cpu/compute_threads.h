#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "strata/optim_cpu/instruction_set.h"

namespace strata::optim_cpu {

/// Elements [begin, end).
struct Block {
  std::uint64_t begin = 0, end = 0;
};

/// The threads that do the optimizer's arithmetic, and the instruction set that they use: one
/// oneTBB arena for each NUMA node, whose threads stay on it. A machine of one node is the simple
/// case. Threads that are not busy belong to the rest of the process.
class ComputeThreads {
 public:
  /// `threads`: total number, shared out evenly over the nodes; 0, or more than the process may
  /// use: as many as it may use.
  explicit ComputeThreads(int threads = 0, InstructionSet instructions = {});
  ~ComputeThreads();
  ComputeThreads(const ComputeThreads&) = delete;
  ComputeThreads& operator=(const ComputeThreads&) = delete;

  [[nodiscard]] int threads() const noexcept;  ///< threads that may work at once
  [[nodiscard]] int nodes() const noexcept;    ///< NUMA nodes that they are on
  [[nodiscard]] InstructionSet instructions() const noexcept;

  /// Calls `work` once for each block of `block_elements` elements of [0, count); the last may be
  /// shorter. Blocks run at once, on all threads; each node takes one run of consecutive blocks,
  /// the same one every time, so a node keeps meeting the memory that it met first. Returns when
  /// all are done. Throws what one of them throws; other blocks may then be left out.
  /// Thread: any; calls at the same time share the threads, or take turns.
  void for_each_block(std::uint64_t count, std::uint64_t block_elements,
                      const std::function<void(Block)>& work);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace strata::optim_cpu
