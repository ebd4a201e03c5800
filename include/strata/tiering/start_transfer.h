#pragma once

#include <cerrno>
#include <utility>

#include "strata/base/error.h"
#include "strata/tiering/shard_store.h"

namespace strata::tiering {

/// Waits for the I/O queue to have room for a transfer. Throws DeadlineExceeded when none comes.
inline void wait_for_room(ShardStore& store) {
  if (store.wait_for_room(ShardStore::kPatience)) return;
  throw DeadlineExceeded(
      "the I/O queue had no room for a transfer within 90 s, or all the transfers that it may have "
      "were under way; is the disk stuck (see dmesg)?",
      ETIMEDOUT);
}

/// Starts a fetch or a flush that cannot wait its turn: `start` makes it or says "not now", and is
/// asked again when the I/O queue has room. The caller must not have transfers of its own under way
/// that it waits for elsewhere. Throws DeadlineExceeded when no room comes.
template <class Start>
[[nodiscard]] auto start_transfer(ShardStore* store, const Start& start) {
  while (true) {
    if (auto transfer = start()) return *std::move(transfer);
    wait_for_room(*store);
  }
}

}  // namespace strata::tiering
