#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace strata::tiering {

/// Chunks [first, last) of an extent.
struct ChunkSpan {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
};

/// The place of a chunk on the disk.
struct ChunkPlace {
  std::size_t file = 0;
  std::uint64_t offset = 0;
};

/// The store's record of one extent: its name and place, and for each chunk whether it was ever
/// written, the hash of its bytes, and the transfers that are at it.
///
///   never written --begin_flush--> flushing --end_flush--> written --begin_flush--> flushing ...
///
/// A flush that failed ends as written: its checksum is that of the new bytes, so that a fetch of
/// other bytes is caught.
class ExtentRecord {
 public:
  /// `places`: one for each chunk. `first_position`: that of chunk 0 in the store's sequence.
  ExtentRecord(std::uint32_t id, std::string_view name, std::uint64_t bytes,
               std::uint64_t chunk_bytes, std::uint64_t first_position,
               std::span<const ChunkPlace> places);

  [[nodiscard]] std::uint32_t id() const noexcept { return id_; }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::uint64_t chunk_bytes() const noexcept { return chunk_bytes_; }
  [[nodiscard]] std::uint64_t first_position() const noexcept { return first_position_; }

  /// The place of a chunk; while it is flushed, its new place.
  [[nodiscard]] ChunkPlace place_of(std::uint64_t chunk) const noexcept;
  void set_place(std::uint64_t chunk, ChunkPlace place) noexcept;
  /// Whether a chunk is whole: false for a tail, which takes less room.
  [[nodiscard]] bool is_whole(std::uint64_t chunk) const noexcept;
  /// The longest span from `chunks.first` on that lies in one piece on one file.
  [[nodiscard]] ChunkSpan leading_piece(ChunkSpan chunks) const noexcept;

  /// Throws UsageError when one of the chunks is being flushed.
  void require_fetchable(ChunkSpan chunks) const;
  void begin_fetch(ChunkSpan chunks);
  void end_fetch(ChunkSpan chunks);

  /// Throws UsageError when one of the chunks is being flushed or fetched.
  void require_flushable(ChunkSpan chunks) const;
  void begin_flush(ChunkSpan chunks);
  void end_flush(ChunkSpan chunks);

  /// The longest span from `chunks.first` on whose chunks were all written, or all never written.
  [[nodiscard]] ChunkSpan leading_run(ChunkSpan chunks) const noexcept;
  [[nodiscard]] bool written(std::uint64_t chunk) const noexcept;

  [[nodiscard]] std::uint64_t checksum(std::uint64_t chunk) const noexcept;
  void set_checksum(std::uint64_t chunk, std::uint64_t checksum) noexcept;

 private:
  enum class ChunkState : std::uint8_t { kNeverWritten, kFlushing, kWritten };
  struct Chunk {
    ChunkPlace place;
    std::uint64_t checksum = 0;
    std::uint32_t fetches = 0;  // fetches under way
    ChunkState state = ChunkState::kNeverWritten;
  };

  std::uint32_t id_;
  std::string name_;
  std::uint64_t bytes_;
  std::uint64_t chunk_bytes_;
  std::uint64_t first_position_;
  std::vector<Chunk> chunks_;
};

}  // namespace strata::tiering
