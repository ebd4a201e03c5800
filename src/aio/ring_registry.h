#pragma once

#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace strata::aio {

/// The memory and the files that an io_uring holds on to, each in a slot of one of the ring's two
/// tables, so that requests need not pin pages and look files up. The tables are made, with empty
/// slots, when they are first needed. Thread: the ring's own; the const methods take no lock and
/// allocate nothing.
class RingRegistry {
 public:
  /// The kernel pins at most 1 GiB in one slot: larger memory is cut into pieces of that size, and
  /// a request across a cut goes without.
  static constexpr std::size_t kPieceBytes = std::size_t{1} << 30;
  static constexpr std::uint32_t kPiecesMax = 1024;
  static constexpr std::uint32_t kFilesMax = 256;
  static constexpr int kNone = -1;

  /// `ring` outlives the registry. `piece_bytes` is smaller in tests.
  explicit RingRegistry(io_uring& ring, std::size_t piece_bytes = kPieceBytes)
      : ring_(ring), piece_bytes_(piece_bytes) {}

  /// Returns "", or why nothing of the memory was registered.
  std::string add_memory(std::span<std::byte> memory);
  /// Memory that was never added is left alone.
  void remove_memory(std::span<std::byte> memory) noexcept;
  /// Returns "", or why the file was not registered.
  std::string add_file(int fd);
  void remove_file(int fd) noexcept;

  /// The slot of the piece that holds all of `[data, data + bytes)`, or kNone.
  [[nodiscard]] int slot_of_memory(const std::byte* data, std::size_t bytes) const;
  /// The slot of the file, or kNone.
  [[nodiscard]] int slot_of_file(int fd) const;

 private:
  struct Piece {
    std::byte* begin;
    std::byte* end;
    std::span<std::byte> memory;  // the memory it was cut from
    int slot;
  };
  struct File {
    int fd;
    int slot;
  };

  std::string make_table_of_memory();
  std::string make_table_of_files();

  io_uring& ring_;
  const std::size_t piece_bytes_;
  std::vector<Piece> pieces_;  // ordered by address; they do not overlap
  std::vector<File> files_;    // ordered by descriptor
  std::vector<int> free_memory_slots_;
  std::vector<int> free_file_slots_;
  bool has_memory_table_ = false;
  bool has_file_table_ = false;
};

}  // namespace strata::aio
