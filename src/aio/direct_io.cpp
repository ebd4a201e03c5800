#include "aio/direct_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "aio/aligned_memory.h"
#include "strata/base/error.h"

namespace strata::aio {
namespace {

constexpr std::uint32_t kAlignmentMin = 512;
constexpr std::uint32_t kAlignmentMax = 64u << 10;

/// The reply of statx: an alignment, 0 for "no direct I/O on this file", nullopt for "does not say"
/// (kernels before 6.1 and some file systems).
std::optional<std::uint32_t> reported_alignment([[maybe_unused]] int fd) {
#ifdef STATX_DIOALIGN
  struct statx status {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
      (status.stx_mask & STATX_DIOALIGN) != 0) {
    if (status.stx_dio_offset_align == 0) return 0;
    const auto strictest = std::max(status.stx_dio_mem_align, status.stx_dio_offset_align);
    return std::bit_ceil(std::max(strictest, kAlignmentMin));
  }
#endif
  return std::nullopt;
}

/// Writes and reads back `bytes` at offset `bytes` and an address that is a multiple of `bytes`
/// but of no larger power of two. False when the kernel calls that misaligned.
bool trial_transfer(int fd, std::uint32_t bytes, std::byte* memory,
                    const std::filesystem::path& path) {
  std::byte* const address = memory + bytes;
  const auto offset = static_cast<off_t>(bytes);
  ssize_t moved = ::pwrite(fd, address, bytes, offset);
  if (moved >= 0) moved = ::pread(fd, address, bytes, offset);
  if (moved >= 0) return static_cast<std::size_t>(moved) == bytes;
  if (errno == EINVAL) return false;
  throw system_error("make a trial transfer in", path.string(), errno);
}

std::optional<std::uint32_t> alignment_by_trial(int fd, const std::filesystem::path& path) {
  const AlignedMemory memory = make_zeroed_memory(2 * kAlignmentMax, 2 * kAlignmentMax);
  for (std::uint32_t bytes = kAlignmentMin; bytes <= kAlignmentMax; bytes *= 2) {
    if (!trial_transfer(fd, bytes, memory.get(), path)) continue;
    if (::ftruncate(fd, 0) != 0) throw system_error("truncate", path.string(), errno);
    return bytes;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::uint32_t> enable_direct_io(int fd, const std::filesystem::path& path) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) throw system_error("read the flags of", path.string(), errno);
  // Not given to open(2): a file system that refuses O_DIRECT there has created the file already.
  if (::fcntl(fd, F_SETFL, flags | O_DIRECT) != 0) return std::nullopt;

  std::optional<std::uint32_t> alignment = reported_alignment(fd);
  if (!alignment) alignment = alignment_by_trial(fd, path).value_or(0);
  if (*alignment != 0) return alignment;
  if (::fcntl(fd, F_SETFL, flags) != 0) {
    throw system_error("leave direct I/O on", path.string(), errno);
  }
  return std::nullopt;
}

}  // namespace strata::aio
