#include "strata/tiering/budget.h"

#include <algorithm>
#include <string>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::tiering {
namespace {

std::string over_budget(Tier tier, std::string_view what, std::uint64_t asked, std::uint64_t held,
                        std::uint64_t allowed) {
  const std::string name(name_of(tier));
  return "the " + name + " budget cannot hold " + std::string(what) + ": " + format_bytes(asked) +
         " asked, " + format_bytes(held) + " held, " + format_bytes(allowed) +
         " allowed; raise the " + name + " budget to at least " + std::to_string(held + asked) +
         " bytes";
}

}  // namespace

Reservation::Reservation(Reservation&& other) noexcept
    : budget_(std::exchange(other.budget_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  std::swap(budget_, other.budget_);
  std::swap(bytes_, other.bytes_);
  Reservation(std::move(other));  // the old bytes go back now
  return *this;
}

Reservation::~Reservation() {
  if (budget_ != nullptr) budget_->release(bytes_);
}

std::optional<Reservation> Budget::try_reserve(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (bytes > limit_ - used_) return std::nullopt;
  used_ += bytes;
  peak_ = std::max(peak_, used_);
  return Reservation(this, bytes);
}

Reservation Budget::reserve(std::uint64_t bytes, std::string_view what) {
  if (auto reservation = try_reserve(bytes)) return std::move(*reservation);
  throw BudgetError(over_budget(tier_, what, bytes, used(), limit_));
}

std::uint64_t Budget::used() const {
  const std::lock_guard lock(mutex_);
  return used_;
}

std::uint64_t Budget::peak() const {
  const std::lock_guard lock(mutex_);
  return peak_;
}

void Budget::release(std::uint64_t bytes) noexcept {
  const std::lock_guard lock(mutex_);
  used_ -= bytes;
}

}  // namespace strata::tiering
