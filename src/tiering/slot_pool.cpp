#include "strata/tiering/slot_pool.h"

#include <cerrno>
#include <string>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::tiering {

StagingSlot::StagingSlot(StagingSlot&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)), bytes_(std::exchange(other.bytes_, {})) {}

StagingSlot& StagingSlot::operator=(StagingSlot&& other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(bytes_, other.bytes_);
  StagingSlot(std::move(other));  // the old slot goes back now
  return *this;
}

StagingSlot::~StagingSlot() {
  if (pool_ != nullptr) pool_->give_back(bytes_);
}

SlotPool::SlotPool(HostArena& arena, std::size_t count, std::uint64_t slot_bytes)
    : arena_(arena), count_(count), slot_bytes_(slot_bytes) {
  if (count == 0 || slot_bytes == 0) {
    throw UsageError("staging slots: " + std::to_string(count) + " slots of " +
                     std::to_string(slot_bytes) + " bytes; both must be positive");
  }
  const std::uint64_t stride = round_up(slot_bytes, HostArena::kGranularity);
  memory_ = arena.take(count * stride, "staging slots");
  free_.reserve(count);
  for (std::size_t i = count; i-- > 0;) free_.push_back(memory_.subspan(i * stride, slot_bytes));
}

// The slot given back last goes out first: its memory is the warmest.
std::optional<StagingSlot> SlotPool::try_acquire() {
  const std::lock_guard lock(mutex_);
  if (lost_count_ == count_) {
    throw DeadlineExceeded(
        "all staging slots are lost to transfers that never came back; the disk or its file system "
        "is stuck (see dmesg), and only a new process can go on",
        ETIMEDOUT);
  }
  if (free_.empty()) return std::nullopt;
  const std::span<std::byte> bytes = free_.back();
  free_.pop_back();
  return StagingSlot(this, bytes);
}

std::size_t SlotPool::free_count() const {
  const std::lock_guard lock(mutex_);
  return free_.size();
}

void SlotPool::give_back(std::span<std::byte> bytes) noexcept {
  const bool is_lost = arena_.is_lost(bytes);
  const std::lock_guard lock(mutex_);
  if (is_lost) {
    ++lost_count_;
  } else {
    free_.push_back(bytes);
  }
}

}  // namespace strata::tiering
