#include "zero3/order_trace.h"

#include <algorithm>

namespace strata::zero3 {

void OrderTrace::enter(Entry entry) {
  const std::size_t size = recorded_ ? entries_.size() : 0;
  for (std::size_t step = 0; step < size; ++step) {
    const std::size_t index = (position_ + step) % size;
    if (entries_[index] == entry) {
      position_ = index + 1;
      return;
    }
  }
  entries_.insert(entries_.begin() + static_cast<std::ptrdiff_t>(position_), entry);
  ++position_;
}

void OrderTrace::end_cycle() {
  recorded_ = recorded_ || !entries_.empty();
  position_ = 0;
}

std::vector<UnitId> OrderTrace::upcoming(std::size_t count, bool forward_only,
                                         bool stop_at_end) const {
  std::vector<UnitId> units;
  if (!recorded_) return units;
  const std::size_t size = entries_.size();
  const std::size_t steps = stop_at_end ? size - position_ : size;
  for (std::size_t step = 0; step < steps && units.size() < count; ++step) {
    const Entry& entry = entries_[(position_ + step) % size];
    if (forward_only && entry.pass == Pass::kBackward) continue;
    if (std::find(units.begin(), units.end(), entry.unit) == units.end()) {
      units.push_back(entry.unit);
    }
  }
  return units;
}

std::optional<std::size_t> OrderTrace::next_use(UnitId unit) const {
  const std::size_t size = recorded_ ? entries_.size() : 0;
  for (std::size_t step = 0; step < size; ++step) {
    if (entries_[(position_ + step) % size].unit == unit) return step;
  }
  return std::nullopt;
}

}  // namespace strata::zero3
