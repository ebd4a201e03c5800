#include "zero3/gather.h"

namespace strata::zero3 {

void gather(Unit& unit, std::span<std::byte> region, Counters& counters) {
  for (FlatVector& vector : unit.vectors()) {
    if (vector.count == 0) continue;
    std::byte* data =
        region.empty() ? vector.weight.memory.data() : region.data() + vector.region_offset;
    vector.storage.unsafeGetStorageImpl()->set_data_ptr_noswap(at::DataPtr(data, torch::kCPU));
    counters.add_moved(Hop::kGather, vector.bytes);
  }
}

void release(Unit& unit) {
  for (FlatVector& vector : unit.vectors()) {
    if (vector.count == 0) continue;
    vector.storage.unsafeGetStorageImpl()->set_data_ptr_noswap(at::DataPtr(nullptr, torch::kCPU));
  }
}

}  // namespace strata::zero3
