#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "strata/aio/lost_memory.h"
#include "strata/base/log.h"
#include "strata/tiering/budget.h"

namespace strata::tiering {

/// Memory for transfers: one slab of address space, backed by huge pages and bound to a NUMA node.
/// Pieces are taken from it one after the other and given back all together.
///
/// Address space for `capacity_bytes` is reserved at once; memory is committed piece by piece as it
/// is taken, and charged to the budget then, rounded up to `kGranularity` and no further (never to
/// a power of two). Huge pages (transparent, 2 MiB) matter: a 4-KiB-scattered buffer cuts a 1 MiB
/// request into 256 segments and halves the disk. Thread: `take` from one thread at a time; the
/// memory itself is the caller's.
class HostArena {
 public:
  static constexpr std::uint64_t kGranularity = 4096;

  /// `numa_node` -1: the node of the calling thread. Binding that is refused (containers) is logged
  /// once. Throws IoError when the address space (twice the capacity) cannot be reserved.
  HostArena(Budget& budget, std::uint64_t capacity_bytes, Logger& log, int numa_node = -1);
  /// Unmaps everything but what is lost (`heed`).
  ~HostArena();
  HostArena(const HostArena&) = delete;
  HostArena& operator=(const HostArena&) = delete;

  /// Takes zeroed memory, aligned to 4096 (to 2 MiB if it is that long), valid until the arena is
  /// destroyed. Pages are touched here, so that running out of memory happens now and not in the
  /// middle of a step. Throws BudgetError when the tier's budget or the arena's capacity cannot
  /// hold it (naming `what`), IoError when the machine cannot.
  [[nodiscard]] std::span<std::byte> take(std::uint64_t bytes, std::string_view what);

  /// Says which memory a queue that borrows from this arena has lost to the kernel: it stays mapped
  /// for as long as the process lives, so that nothing else ever gets its addresses.
  void heed(std::shared_ptr<const aio::LostMemory> lost) noexcept;
  /// Whether the kernel may still write to any of it.
  [[nodiscard]] bool is_lost(std::span<const std::byte> memory) const;

  [[nodiscard]] std::uint64_t used() const noexcept { return used_; }
  [[nodiscard]] std::uint64_t capacity() const noexcept { return capacity_; }

 private:
  Budget& budget_;
  std::byte* base_ = nullptr;
  std::uint64_t reserved_ = 0;  // address space, in bytes
  std::uint64_t capacity_ = 0;
  std::uint64_t used_ = 0;
  std::uint64_t end_ = 0;  // where the last piece ends
  std::vector<Reservation> reservations_;
  std::shared_ptr<const aio::LostMemory> lost_;
};

}  // namespace strata::tiering
