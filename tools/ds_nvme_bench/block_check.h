#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace strata::nvme_bench {

/// The place of a block, for its contents and for messages.
struct BlockPlace {
  std::uint64_t block = 0;      ///< its number in the thread's part
  std::uint64_t offset = 0;     ///< its place in its file
  std::uint64_t fill_seed = 0;  ///< seed of its file's bytes before they are written
};

/// Makes the contents of the blocks that a thread writes, and tells whether those that come back
/// are the last ones written: flipped bits, lost, stale and misdirected writes are all found.
///
/// A written block begins with its offset, its generation (how often it was written) and a checksum
/// over all of it. A block not written yet holds the bytes that its file was filled with, or those
/// of an earlier measurement with a check and the same block size.
class BlockCheck {
 public:
  explicit BlockCheck(std::uint64_t blocks) : generations_(blocks) {}

  /// Fills `bytes` with the next generation of a block.
  void prepare_write(const BlockPlace& place, std::span<std::byte> bytes);

  /// Returns "", or the expected and the found contents in words.
  [[nodiscard]] std::string check(const BlockPlace& place, std::span<const std::byte> bytes) const;

 private:
  std::vector<std::uint32_t> generations_;  // 0: not written yet
};

}  // namespace strata::nvme_bench
