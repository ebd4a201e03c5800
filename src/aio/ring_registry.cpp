#include "aio/ring_registry.h"

#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <numeric>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::aio {
namespace {

/// All slots of a table, the first one last, so that it is taken first.
std::vector<int> all_slots(std::uint32_t count) {
  std::vector<int> slots(count);
  std::iota(slots.rbegin(), slots.rend(), 0);
  return slots;
}

std::string explain_no_table(int code, const std::string& what) {
  const std::string reason = "io_uring takes no registered " + what + ": " + errno_name(code);
  switch (code) {
    case EINVAL: return reason + "; Linux 5.19 or later is needed";
    case ENOMEM: return reason + "; the kernel is short of memory";
    case EPERM:
    case EACCES: return reason + "; blocked by a sandbox, allow io_uring_register";
    default: return reason;
  }
}

std::string explain_no_memory(int code, std::size_t bytes) {
  const std::string reason =
      "io_uring did not register " + format_bytes(bytes) + " of memory: " + errno_name(code);
  switch (code) {
    case ENOMEM: {
      struct rlimit limit {};
      const bool limited = ::getrlimit(RLIMIT_MEMLOCK, &limit) == 0;
      if (!limited || limit.rlim_cur == RLIM_INFINITY) {
        return reason + "; the system is short of memory that can be pinned";
      }
      return reason + "; raise the limit on locked memory (ulimit -l), which is " +
             format_bytes(limit.rlim_cur) + " for all of this user's processes";
    }
    case EFAULT:
    case EOPNOTSUPP:
      return reason + "; it must be mapped, writable and not backed by a file on a disk";
    default: return reason;
  }
}

}  // namespace

// ---- memory -----------------------------------------------------------------------------------

std::string RingRegistry::make_table_of_memory() {
  if (has_memory_table_) return {};
  const int result = io_uring_register_buffers_sparse(&ring_, kPiecesMax);
  if (result < 0) return explain_no_table(-result, "buffers");
  has_memory_table_ = true;
  free_memory_slots_ = all_slots(kPiecesMax);
  return {};
}

std::string RingRegistry::add_memory(std::span<std::byte> memory) {
  if (std::string refusal = make_table_of_memory(); !refusal.empty()) return refusal;
  if (memory.empty()) return "there is no memory to register";
  const std::size_t count = (memory.size() + piece_bytes_ - 1) / piece_bytes_;
  if (count > free_memory_slots_.size()) {
    return "the ring holds at most " + format_bytes(kPiecesMax * piece_bytes_) +
           " of registered memory";
  }
  std::byte* const end = memory.data() + memory.size();
  const auto after = std::ranges::upper_bound(pieces_, memory.data(), {}, &Piece::end);
  if (after != pieces_.end() && after->begin < end) {
    return "it overlaps memory that is registered already";
  }
  const auto at = after - pieces_.begin();
  pieces_.reserve(pieces_.size() + count);
  for (std::size_t i = 0; i < count; ++i) {
    std::byte* const begin = memory.data() + i * piece_bytes_;
    const std::size_t bytes = std::min<std::size_t>(piece_bytes_, end - begin);
    const int slot = free_memory_slots_.back();
    const iovec range{.iov_base = begin, .iov_len = bytes};
    const int result = io_uring_register_buffers_update_tag(&ring_, static_cast<unsigned>(slot),
                                                            &range, nullptr, 1);
    if (result < 0) {
      remove_memory(memory);
      return explain_no_memory(-result, memory.size());
    }
    free_memory_slots_.pop_back();
    pieces_.insert(pieces_.begin() + at + static_cast<std::ptrdiff_t>(i),
                   {.begin = begin, .end = begin + bytes, .memory = memory, .slot = slot});
  }
  return {};
}

void RingRegistry::remove_memory(std::span<std::byte> memory) noexcept {
  std::erase_if(pieces_, [&](const Piece& piece) {
    if (piece.memory.data() != memory.data() || piece.memory.size() != memory.size()) return false;
    const iovec nothing{.iov_base = nullptr, .iov_len = 0};
    // The kernel lets the pages go when no request uses them; it has no reason to refuse.
    (void)io_uring_register_buffers_update_tag(&ring_, static_cast<unsigned>(piece.slot), &nothing,
                                               nullptr, 1);
    free_memory_slots_.push_back(piece.slot);
    return true;
  });
}

int RingRegistry::slot_of_memory(const std::byte* data, std::size_t bytes) const {
  const auto piece = std::ranges::upper_bound(pieces_, data, {}, &Piece::end);
  const bool holds = piece != pieces_.end() && piece->begin <= data && data + bytes <= piece->end;
  return holds ? piece->slot : kNone;
}

// ---- files ------------------------------------------------------------------------------------

std::string RingRegistry::make_table_of_files() {
  if (has_file_table_) return {};
  const int result = io_uring_register_files_sparse(&ring_, kFilesMax);
  if (result < 0) return explain_no_table(-result, "files");
  has_file_table_ = true;
  free_file_slots_ = all_slots(kFilesMax);
  return {};
}

std::string RingRegistry::add_file(int fd) {
  if (std::string refusal = make_table_of_files(); !refusal.empty()) return refusal;
  if (slot_of_file(fd) != kNone) return "the file is registered already";
  if (free_file_slots_.empty()) {
    return "the ring holds at most " + std::to_string(kFilesMax) + " registered files";
  }
  const int slot = free_file_slots_.back();
  files_.reserve(files_.size() + 1);
  const int result = io_uring_register_files_update(&ring_, static_cast<unsigned>(slot), &fd, 1);
  if (result < 0) return "io_uring did not register the file: " + errno_name(-result);
  free_file_slots_.pop_back();
  files_.insert(std::ranges::upper_bound(files_, fd, {}, &File::fd), {.fd = fd, .slot = slot});
  return {};
}

void RingRegistry::remove_file(int fd) noexcept {
  std::erase_if(files_, [&](const File& file) {
    if (file.fd != fd) return false;
    const int nothing = -1;
    (void)io_uring_register_files_update(&ring_, static_cast<unsigned>(file.slot), &nothing, 1);
    free_file_slots_.push_back(file.slot);
    return true;
  });
}

int RingRegistry::slot_of_file(int fd) const {
  const auto file = std::ranges::lower_bound(files_, fd, {}, &File::fd);
  return file != files_.end() && file->fd == fd ? file->slot : kNone;
}

}  // namespace strata::aio
