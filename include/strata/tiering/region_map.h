#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>

namespace strata::tiering {

/// A stretch of some memory, in bytes from its start.
struct Region {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  bool operator==(const Region&) const = default;
};

/// The books of stretches of memory, one at first. Regions of them are taken and given back whole:
/// first fit, neighbours are joined when they come back. It touches no memory, and it is a value: a
/// copy is a "what if". The device tier keeps unsharded units by it. Thread: one thread.
class RegionMap {
 public:
  /// Regions begin and end on multiples of this.
  static constexpr std::uint64_t kAlignment = 4096;

  /// Hands out no more than the largest multiple of kAlignment that `bytes` holds.
  explicit RegionMap(std::uint64_t bytes = 0);

  /// A region of `bytes` rounded up to kAlignment, or nullopt: no free stretch is long enough now.
  [[nodiscard]] std::optional<Region> try_take(std::uint64_t bytes);

  /// Takes another stretch into the books; it touches none that is in them. Its offset and length
  /// are multiples of kAlignment (UsageError otherwise).
  void add(Region stretch);

  /// Gives back a region that `try_take` returned. Throws UsageError for anything else.
  void give_back(Region region);

  /// Whether `try_take(bytes)` would succeed if all regions but `kept` were given back.
  [[nodiscard]] bool would_fit_beside(std::span<const Region> kept, std::uint64_t bytes) const;

  [[nodiscard]] std::uint64_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] std::uint64_t used() const noexcept { return used_; }

 private:
  void set_free(Region region);

  std::uint64_t capacity_ = 0;
  std::map<std::uint64_t, std::uint64_t> free_;   // offset -> bytes
  std::map<std::uint64_t, std::uint64_t> taken_;  // offset -> bytes
  std::uint64_t used_ = 0;
};

}  // namespace strata::tiering
