#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace strata {

/// The use of a pool, in bytes.
struct TensorPoolUse {
  std::uint64_t live = 0;    ///< bytes of tensors
  std::uint64_t held = 0;    ///< taken from the system: `live`, and free blocks for tensors to come
  std::uint64_t peak = 0;    ///< highest `held` so far
  std::uint64_t mapped = 0;  ///< number of times that memory was asked of the system
};

/// Memory for LibTorch's tensors on the CPU that is kept, in huge pages, from one step to the next.
///
/// glibc maps and unmaps every activation and gradient of more than a few hundred KiB, so every
/// step pays a page fault for every 4 KiB of them; told to keep them, it leaves holes. The pool
/// takes segments of huge pages: one for each large tensor, and shared ones for the others, which
/// it cuts best fit, joining what comes back. A step that does what the one before it did takes
/// nothing from the system. Tensors below `kSmallestBlock` stay with LibTorch's own allocator.
///
/// Every CPU tensor of the process, Strata's or not, is allocated through it from its construction
/// to its destruction: make one, first thing in main. LibTorch has one CPU allocator, so a second
/// pool, or an allocator set behind its back, is a UsageError. Tensors may outlive it; what they
/// hold goes back to the system when they are gone. Thread-safe, but for its construction and
/// destruction.
///
/// Before a new segment makes the pool hold more than ever, it takes over the pages of segments
/// that are free as a whole, whatever their sizes: `held` follows what is live at one time, and a
/// steady step pays for no fresh page also where it has all memory that there is. Throws
/// c10::OutOfMemoryError, as LibTorch's own does, when the system has none.
class TensorPool {
 public:
  static constexpr std::size_t kSmallestBlock = std::size_t{64} << 10;
  /// Blocks begin and end at multiples of this.
  static constexpr std::size_t kBlockGrid = 4096;
  /// The largest block that shares a segment with others, and the size of those segments.
  static constexpr std::size_t kLargestShared = std::size_t{4} << 20;
  static constexpr std::size_t kSegment = std::size_t{8} << 20;

  TensorPool();
  ~TensorPool();
  TensorPool(const TensorPool&) = delete;
  TensorPool& operator=(const TensorPool&) = delete;

  [[nodiscard]] TensorPoolUse use() const;
  /// Gives segments without a live tensor back to the system.
  void trim();

 private:
  class Allocator;
  Allocator* allocator_;
};

}  // namespace strata
