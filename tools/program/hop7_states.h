#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "strata/optim_cpu/compute_threads.h"
#include "strata/optim_cpu/update.h"

namespace strata::tool {

/// Zeroed memory in huge pages.
class HugePages {
 public:
  explicit HugePages(std::size_t bytes);
  ~HugePages();
  HugePages(const HugePages&) = delete;
  HugePages& operator=(const HugePages&) = delete;
  [[nodiscard]] std::byte* data() const { return data_; }

 private:
  std::size_t bytes_;
  std::byte* data_;
};

/// All states of a shard in memory, and what hop 7 does to them.
class Hop7States {
 public:
  Hop7States(const StateFormat& format, Precision gradient_format, std::uint64_t elements);

  /// One update of every element.
  void update(const optim_cpu::OptimizerOptions& options, std::int64_t step,
              optim_cpu::ComputeThreads& threads);
  /// Runs the same streams through the same blocks with an addition (of nothing) as their only
  /// arithmetic: what the memory allows.
  void stream(optim_cpu::ComputeThreads& threads);

  /// Read and written by one update.
  [[nodiscard]] std::uint64_t bytes_moved() const;
  [[nodiscard]] std::uint64_t elements() const { return elements_; }

 private:
  [[nodiscard]] std::uint64_t bytes_of(StateKind kind) const;
  [[nodiscard]] std::byte* at(StateKind kind, std::uint64_t element) const;

  StateFormat format_;
  Precision gradient_format_;
  std::uint64_t elements_;
  std::uint64_t offsets_[kStateKindCount + 1] = {};
  HugePages memory_;
};

}  // namespace strata::tool
