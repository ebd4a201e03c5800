#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "strata/tiering/device.h"
#include "strata/tiering/region_map.h"

namespace strata::zero3 {

/// The events to wait for before free memory of the device is used again: regions come back while
/// streams still work on them. An event that is done from the start is not kept; on host memory all
/// are. Thread: one thread.
class FreedRegions {
 public:
  /// Notes that `region` is free; its last use is over when `last_use` is done.
  void add(tiering::Region region, tiering::Event last_use) {
    if (last_use.state() == nullptr || region.bytes == 0) return;
    freed_.insert({region.offset, {region.offset + region.bytes, std::move(last_use)}});
  }

  /// Returns the events of all earlier uses of a part of `region`. The caller waits for them:
  /// nothing of the region is remembered afterwards.
  std::vector<tiering::Event> take(tiering::Region region) {
    const std::uint64_t end = region.offset + region.bytes;
    std::vector<tiering::Event> events;
    std::vector<std::pair<std::uint64_t, Freed>> rests;
    for (auto each = freed_.begin(); each != freed_.end() && each->first < end;) {
      const auto& [begin, freed] = *each;
      if (freed.end <= region.offset) {
        ++each;
        continue;
      }
      events.push_back(freed.last_use);
      if (begin < region.offset) rests.push_back({begin, {region.offset, freed.last_use}});
      if (freed.end > end) rests.push_back({end, freed});
      each = freed_.erase(each);
    }
    freed_.insert(rests.begin(), rests.end());
    return events;
  }

 private:
  struct Freed {
    std::uint64_t end;
    tiering::Event last_use;
  };
  std::multimap<std::uint64_t, Freed> freed_;  // keyed by offset
};

}  // namespace strata::zero3
