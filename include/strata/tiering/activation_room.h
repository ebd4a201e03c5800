#pragma once

#include <cstdint>

namespace strata::tiering {

/// The room of an ActivationStore, in pages of one size: as many as stay in host memory, and as
/// many as go on to nvme. A small value.
struct ActivationRoom {
  std::uint64_t page_bytes = 0;
  std::uint64_t frames = 0;  ///< pages that host memory holds
  std::uint64_t places = 0;  ///< pages that nvme holds

  /// Bytes of host memory that it takes, and bytes of its extent in the shard store.
  [[nodiscard]] std::uint64_t host_bytes() const noexcept { return frames * page_bytes; }
  [[nodiscard]] std::uint64_t nvme_bytes() const noexcept { return places * page_bytes; }
  [[nodiscard]] bool is_empty() const noexcept { return frames == 0; }
  bool operator==(const ActivationRoom&) const = default;

  /// Frames that pages pass through on their way to nvme and back, at least.
  static constexpr std::uint64_t kLeastFrames = 4;
};

/// Cuts `host_bytes` and `nvme_bytes` into pages, at most 4 MiB long and on the grid of
/// `chunk_bytes` where nvme takes part, so short that even a small room has several. What is less
/// than a page is left out. Room on nvme comes with kLeastFrames in host memory, also where that is
/// more than `host_bytes`.
[[nodiscard]] ActivationRoom activation_room(std::uint64_t host_bytes, std::uint64_t nvme_bytes,
                                             std::uint64_t chunk_bytes);

/// Bytes that an ActivationStore has moved since it was made.
struct ActivationReading {
  std::uint64_t put = 0;      ///< taken
  std::uint64_t refused = 0;  ///< not taken, for want of room
  std::uint64_t brought = 0;  ///< given back
  std::uint64_t written = 0;  ///< to nvme, in whole pages
  std::uint64_t read = 0;     ///< from nvme, in whole pages
};

}  // namespace strata::tiering
