#include "zero3/writes_in_flight.h"

#include <optional>
#include <utility>

#include "strata/base/error.h"
#include "strata/tiering/start_transfer.h"

namespace strata::zero3 {

void WritesInFlight::settle_oldest() {
  Write oldest = std::move(writes_.front());
  writes_.pop_front();
  oldest.transfer.wait();
}

tiering::StagingSlot WritesInFlight::take() {
  while (true) {
    if (auto slot = slots_.try_acquire()) return *std::move(slot);
    STRATA_CHECK(!writes_.empty(), "all staging buffers are being filled");
    settle_oldest();
  }
}

bool WritesInFlight::try_send(tiering::StagingSlot& slot, const tiering::StateHome& home,
                              tiering::ByteRange range) {
  auto transfer = tiering::flush_home(places_, home, range, slot.bytes());
  if (!transfer) return false;
  const std::lock_guard lock(mutex_);
  writes_.push_back({std::move(slot), *std::move(transfer)});
  return true;
}

void WritesInFlight::send(tiering::StagingSlot slot, const tiering::StateHome& home,
                          tiering::ByteRange range) {
  while (!try_send(slot, home, range)) {
    if (writes_.empty()) {
      wait_for_room(*places_.store);
    } else {
      settle_oldest();
    }
  }
}

void WritesInFlight::wait() {
  while (!writes_.empty()) settle_oldest();
}

}  // namespace strata::zero3
