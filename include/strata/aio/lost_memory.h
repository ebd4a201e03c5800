#pragma once

#include <atomic>
#include <cstddef>
#include <mutex>
#include <span>
#include <vector>

namespace strata::aio {

/// Memory that the kernel may write to until the process ends: the buffers of transfers that never
/// came back. A queue adds to it (`IoQueue::lost_memory`); an owner of memory that was lent to the
/// queue asks it before that memory serves something else or is unmapped. It only grows.
/// Thread-safe.
class LostMemory {
 public:
  void add(std::span<const std::byte> memory);

  /// Whether any byte of `memory` is lost. Costs nothing while nothing is.
  [[nodiscard]] bool touches(std::span<const std::byte> memory) const;

  /// The lost parts of `memory`, in the order of their addresses; they may overlap.
  [[nodiscard]] std::vector<std::span<const std::byte>> within(
      std::span<const std::byte> memory) const;

 private:
  mutable std::mutex mutex_;
  std::vector<std::span<const std::byte>> parts_;
  std::atomic<bool> is_empty_{true};
};

}  // namespace strata::aio
