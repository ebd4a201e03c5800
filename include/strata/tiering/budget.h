#pragma once

#include <cstdint>
#include <limits>
#include <mutex>
#include <optional>
#include <string_view>

#include "strata/tiering/tier.h"

namespace strata::tiering {

class Budget;

/// Bytes taken from a budget; gives them back on destruction. Move-only. Must not outlive the
/// budget.
class Reservation {
 public:
  Reservation() = default;
  Reservation(Reservation&& other) noexcept;
  Reservation& operator=(Reservation&& other) noexcept;
  ~Reservation();
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  friend class Budget;
  Reservation(Budget* budget, std::uint64_t bytes) : budget_(budget), bytes_(bytes) {}
  Budget* budget_ = nullptr;
  std::uint64_t bytes_ = 0;
};

/// The bytes that one tier may hold. A bound, not a hint: memory or disk space of that tier is
/// reserved here before it is made. Thread-safe. Not movable: reservations point at it.
class Budget {
 public:
  static constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

  explicit Budget(Tier tier, std::uint64_t limit_bytes = kUnlimited)
      : tier_(tier), limit_(limit_bytes) {}
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  /// Takes `bytes`, or returns nullopt and takes nothing when they do not fit.
  [[nodiscard]] std::optional<Reservation> try_reserve(std::uint64_t bytes);

  /// Takes `bytes` for `what`. Throws BudgetError: tier, what, bytes asked, held and allowed.
  [[nodiscard]] Reservation reserve(std::uint64_t bytes, std::string_view what);

  [[nodiscard]] Tier tier() const noexcept { return tier_; }
  [[nodiscard]] std::uint64_t limit() const noexcept { return limit_; }
  [[nodiscard]] std::uint64_t used() const;
  /// The most that was held at one time.
  [[nodiscard]] std::uint64_t peak() const;

 private:
  friend class Reservation;
  void release(std::uint64_t bytes) noexcept;

  const Tier tier_;
  const std::uint64_t limit_;
  mutable std::mutex mutex_;
  std::uint64_t used_ = 0;
  std::uint64_t peak_ = 0;
};

}  // namespace strata::tiering
