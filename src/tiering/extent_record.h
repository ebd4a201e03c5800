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

/// Where a chunk lies on the disk.
struct ChunkPlace {
  std::size_t file = 0;
  std::uint64_t offset = 0;
};

/// What the store knows of one extent: its name and place, and for each chunk whether it was ever
/// written, what its bytes must hash to, and which transfers are at it.
///
///   never written --begin_flush--> flushing --end_flush--> written --begin_flush--> flushing ...
///
/// A flush that failed ends as written: its checksum is the new bytes', so that a fetch of whatever
/// the disk holds now is caught.
class ExtentRecord {
 public:
  /// `places`: of each chunk. `first_position`: of its chunks in the store's sequence of chunks.
  ExtentRecord(std::uint32_t id, std::string_view name, std::uint64_t bytes,
               std::uint64_t chunk_bytes, std::uint64_t first_position,
               std::span<const ChunkPlace> places);

  [[nodiscard]] std::uint32_t id() const noexcept { return id_; }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::uint64_t chunk_bytes() const noexcept { return chunk_bytes_; }
  [[nodiscard]] std::uint64_t first_position() const noexcept { return first_position_; }

  /// Where a chunk lies or, while it is flushed, where it will lie.
  [[nodiscard]] ChunkPlace place_of(std::uint64_t chunk) const noexcept;
  void set_place(std::uint64_t chunk, ChunkPlace place) noexcept;
  /// False for a tail, which takes less room than others.
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
    std::uint32_t fetches = 0;  // under way
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
