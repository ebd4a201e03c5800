#pragma once

#include <cstddef>
#include <cstdint>
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

/// How the chunks of one extent are dealt to the store's files: in turn, each file's share lying in
/// one piece. Chunk i is number i / files of the share in file (first_file + i) % files.
struct StripeLayout {
  std::uint64_t chunk_bytes = 0;
  std::size_t first_file = 0;
  std::vector<std::uint64_t> share_offsets;  ///< one for each file

  [[nodiscard]] std::size_t files() const noexcept { return share_offsets.size(); }
  [[nodiscard]] ChunkPlace place_of(std::uint64_t chunk) const noexcept {
    const std::size_t file = (first_file + chunk) % files();
    return {file, share_offsets[file] + chunk / files() * chunk_bytes};
  }
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
  ExtentRecord(std::uint32_t id, std::string_view name, std::uint64_t bytes, StripeLayout layout);

  [[nodiscard]] std::uint32_t id() const noexcept { return id_; }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] const StripeLayout& layout() const noexcept { return layout_; }

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
    std::uint64_t checksum = 0;
    std::uint32_t fetches = 0;  // under way
    ChunkState state = ChunkState::kNeverWritten;
  };

  std::uint32_t id_;
  std::string name_;
  std::uint64_t bytes_;
  StripeLayout layout_;
  std::vector<Chunk> chunks_;
};

}  // namespace strata::tiering
