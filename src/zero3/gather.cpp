#include "zero3/gather.h"

namespace strata::zero3 {

void gather(Unit& unit, std::span<std::byte> region, Counters& counters) {
  unit.attach(region);
  for (const FlatVector& vector : unit.vectors()) {
    if (vector.count > 0) counters.add_moved(Hop::kGather, vector.bytes);
  }
}

}  // namespace strata::zero3
