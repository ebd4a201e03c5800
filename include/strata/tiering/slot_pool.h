#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "strata/tiering/host_arena.h"

namespace strata::tiering {

class SlotPool;

/// A staging buffer on loan; returns itself to its pool on destruction, when no transfer may be
/// using it. Move-only.
class StagingSlot {
 public:
  StagingSlot(StagingSlot&& other) noexcept;
  StagingSlot& operator=(StagingSlot&& other) noexcept;
  ~StagingSlot();
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }

 private:
  friend class SlotPool;
  StagingSlot(SlotPool* pool, std::span<std::byte> bytes) : pool_(pool), bytes_(bytes) {}
  SlotPool* pool_;
  std::span<std::byte> bytes_;
};

/// A fixed number of equal staging buffers between the disk and the device. A unit of any size
/// passes through them in pieces, so their size does not depend on the largest parameter.
/// A slot that is given back while its memory is lost (`HostArena::heed`) is never lent again.
/// Thread-safe. Must outlive its slots; the arena must outlive it.
class SlotPool {
 public:
  SlotPool(HostArena& arena, std::size_t count, std::uint64_t slot_bytes);

  /// A free slot, or nullopt: all are on loan. Never blocks. Throws DeadlineExceeded when all are
  /// lost.
  [[nodiscard]] std::optional<StagingSlot> try_acquire();

  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  [[nodiscard]] std::uint64_t slot_bytes() const noexcept { return slot_bytes_; }
  [[nodiscard]] std::size_t free_count() const;
  /// All slots, for Submitter::register_memory.
  [[nodiscard]] std::span<std::byte> memory() const noexcept { return memory_; }

 private:
  friend class StagingSlot;
  void give_back(std::span<std::byte> bytes) noexcept;

  const HostArena& arena_;
  std::size_t count_;
  std::uint64_t slot_bytes_;
  std::span<std::byte> memory_;
  mutable std::mutex mutex_;
  std::size_t lost_count_ = 0;
  std::vector<std::span<std::byte>> free_;
};

}  // namespace strata::tiering
