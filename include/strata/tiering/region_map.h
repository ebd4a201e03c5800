#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>

namespace strata::tiering {

/// Hands out regions of one fixed stretch of memory, first fit, joining neighbours when they come
/// back. The device tier keeps unsharded units in it. Its bookkeeping is small; the memory is the
/// caller's and must outlive it. Regions are named by their span; a region is given back whole.
/// Thread: one thread.
class RegionAllocator {
 public:
  static constexpr std::uint64_t kAlignment = 4096;

  explicit RegionAllocator(std::span<std::byte> memory);

  /// A region of `bytes` rounded up to kAlignment, or nullopt: no free stretch is long enough now.
  [[nodiscard]] std::optional<std::span<std::byte>> try_take(std::uint64_t bytes);

  /// Gives back a region that `try_take` returned. Throws UsageError for anything else.
  void give_back(std::span<std::byte> region);

  [[nodiscard]] std::uint64_t capacity() const noexcept { return memory_.size(); }
  [[nodiscard]] std::uint64_t used() const noexcept { return used_; }

 private:
  std::span<std::byte> memory_;
  std::map<std::uint64_t, std::uint64_t> free_;   // offset -> bytes
  std::map<std::uint64_t, std::uint64_t> taken_;  // offset -> bytes
  std::uint64_t used_ = 0;
};

}  // namespace strata::tiering
