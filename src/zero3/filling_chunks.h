#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>

#include "strata/tiering/slot_pool.h"
#include "strata/tiering/state_home.h"
#include "zero3/shard_map.h"
#include "zero3/writes_in_flight.h"

namespace strata::zero3 {

/// One state of a vector on its way to its home: where to put the bytes of an element, and the
/// sending of what is complete. A home in host memory takes them directly. For another one there
/// are consecutive chunks, open one after the other from the front to the back of the vector, each
/// in a staging buffer; whoever puts the last bytes into a chunk starts its write to nvme.
///
/// Thread: `data`, `run_end` and `filled` any, for different elements; the others one, while nobody
/// else calls anything.
class FillingChunks {
 public:
  /// The home of `count` elements of `element_bytes`; one that does not exist takes nothing. The
  /// home and `writes`, which is null where no home is elsewhere, outlive it.
  FillingChunks(const tiering::StateHome& home, std::uint64_t element_bytes, std::uint64_t count,
                std::uint64_t chunk_bytes, WritesInFlight* writes);

  /// The end of the elements, from `begin` on, that there are buffers for.
  [[nodiscard]] std::uint64_t room_end(std::uint64_t begin) const;
  /// Opens the chunk that ends this room. It holds zeros where elements outside of `written` are in
  /// it. Waits for a buffer, and throws what WritesInFlight::take throws.
  void open_next(std::uint64_t begin, ElementRange written);

  /// The place of an element, and the end of the elements that follow it there; null where the home
  /// does not exist.
  [[nodiscard]] std::byte* data(std::uint64_t element) const;
  [[nodiscard]] std::uint64_t run_end(std::uint64_t element) const;
  /// Notes that these elements are in their place. Throws what WritesInFlight::try_send
  /// throws.
  void filled(ElementRange elements);

  /// Lets go of the chunks that end at `end` or before: their writes are under way then. Throws
  /// what WritesInFlight::send throws.
  void close_until(std::uint64_t end);

 private:
  struct Chunk {
    Chunk(ElementRange all, tiering::StagingSlot buffer)
        : elements(all), missing(all.count()), slot(std::move(buffer)) {}
    const ElementRange elements;
    std::atomic<std::uint64_t> missing;  // elements that are not in their place
    bool is_sent = false;
    tiering::StagingSlot slot;  // until it is
  };
  [[nodiscard]] std::size_t index_of(std::uint64_t element) const;
  [[nodiscard]] tiering::ByteRange bytes_of(ElementRange elements) const;

  const tiering::StateHome& home_;
  std::uint64_t element_bytes_, count_, chunk_elements_;
  WritesInFlight* writes_;
  std::deque<Chunk> open_;
};

}  // namespace strata::zero3
