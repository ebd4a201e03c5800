#include "strata/aio/io_file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <limits>
#include <optional>
#include <random>
#include <utility>

#include "aio/aligned_memory.h"
#include "aio/direct_io.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::aio {
namespace {

constexpr int kNameAttemptsMax = 100;
constexpr std::size_t kZeroBytes = 1_MiB;

std::string random_name() {
  std::random_device entropy;
  std::array<char, 40> name{};
  std::snprintf(name.data(), name.size(), "strata-%08x%08x.scratch", entropy(), entropy());
  return name.data();
}

/// Bytes that this process may still allocate in the file system, where it tells.
std::optional<std::uint64_t> bytes_free(int fd) {
  struct statvfs status {};
  if (::fstatvfs(fd, &status) != 0 || status.f_blocks == 0) return std::nullopt;
  const std::uint64_t blocks = ::geteuid() == 0 ? status.f_bfree : status.f_bavail;
  return blocks * status.f_frsize;
}

IoError no_room(const IoFile& file, std::uint64_t bytes, int code) {
  std::string hint;
  if (const auto free = bytes_free(file.fd())) {
    hint = format_bytes(*free) + " (" + std::to_string(*free) + " bytes) are free; ";
  }
  switch (code) {
    case ENOSPC: hint += "free some space or name another directory"; break;
    case EDQUOT:
      hint += "the disk quota of this user is used up; raise it or name another one";
      break;
    case EFBIG:
      hint += "the file system or the limit on file sizes (ulimit -f) is too small";
      break;
    default: hint += "name a directory on another file system"; break;
  }
  return system_error(
      "allocate " + format_bytes(bytes) + " (" + std::to_string(bytes) + " bytes) for",
      file.path().string(), code, hint);
}

/// Refuses what cannot succeed before a shared disk is filled on the way to finding out, and
/// before SIGXFSZ ends the process.
void check_room(const IoFile& file, std::uint64_t bytes) {
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
      bytes > limit.rlim_cur) {
    throw no_room(file, bytes, EFBIG);
  }
  if (bytes > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max())) {
    throw no_room(file, bytes, EFBIG);
  }
  const auto free = bytes_free(file.fd());
  if (free && bytes - file.size() > *free) throw no_room(file, bytes, ENOSPC);
}

/// fallocate(2) through signals; returns the errno, 0 on success.
int allocate_blocks(int fd, std::uint64_t begin, std::uint64_t end) {
  int result = 0;
  do {
    result = ::fallocate(fd, 0, static_cast<off_t>(begin), static_cast<off_t>(end - begin));
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : errno;
}

/// Writes zeros over [begin, end), both multiples of the file's alignment; returns the errno.
int write_zeros(int fd, std::uint64_t begin, std::uint64_t end) {
  const AlignedMemory zeros = make_zeroed_memory(kZeroBytes, kZeroBytes);
  while (begin < end) {
    const auto bytes = std::min<std::uint64_t>(kZeroBytes, end - begin);
    const ssize_t written = ::pwrite(fd, zeros.get(), bytes, static_cast<off_t>(begin));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    if (written == 0) return ENOSPC;
    begin += static_cast<std::uint64_t>(written);
  }
  return 0;
}

}  // namespace

IoFile IoFile::create_scratch(const std::filesystem::path& directory) {
  IoFile file;
  for (int attempt = 0; file.fd_ < 0; ++attempt) {
    file.path_ = directory / random_name();
    file.fd_ = ::open(file.path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file.fd_ >= 0 || errno == EINTR) continue;
    if (errno == EEXIST && attempt < kNameAttemptsMax) continue;
    throw system_error("create a scratch file in", directory.string(), errno,
                       "name an existing directory that this user may write to");
  }
  if (::unlink(file.path_.c_str()) != 0) {
    throw system_error("unlink the scratch file", file.path_.string(), errno);
  }
  if (const auto alignment = enable_direct_io(file.fd_, file.path_)) {
    file.direct_ = true;
    file.alignment_ = *alignment;
  }
  return file;
}

IoFile::IoFile(IoFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      direct_(other.direct_),
      alignment_(other.alignment_),
      size_(std::exchange(other.size_, 0)),
      path_(std::move(other.path_)) {}

IoFile& IoFile::operator=(IoFile&& other) noexcept {
  // The old file goes with `replaced`.
  IoFile replaced(std::move(other));
  std::swap(fd_, replaced.fd_);
  std::swap(direct_, replaced.direct_);
  std::swap(alignment_, replaced.alignment_);
  std::swap(size_, replaced.size_);
  std::swap(path_, replaced.path_);
  return *this;
}

IoFile::~IoFile() {
  if (fd_ >= 0) ::close(fd_);
}

void IoFile::preallocate(std::uint64_t bytes) {
  if (bytes <= size_) return;
  check_room(*this, bytes);
  const std::uint64_t size = round_up(bytes, alignment_);
  int code = allocate_blocks(fd_, size_, size);
  if (code == EOPNOTSUPP) code = write_zeros(fd_, size_, size);
  if (code != 0) {
    // Gives back what the failed attempt took; its own failure would change nothing for the caller.
    [[maybe_unused]] const int ignored = ::ftruncate(fd_, static_cast<off_t>(size_));
    throw no_room(*this, bytes, code);
  }
  size_ = size;
}

IoFile::Room IoFile::room() const noexcept {
  struct stat status {};
  const std::uint64_t number = ::fstat(fd_, &status) == 0 ? status.st_dev : 0;
  return {.file_system = number,
          .bytes = bytes_free(fd_).value_or(std::numeric_limits<std::uint64_t>::max())};
}

void IoFile::shrink(std::uint64_t bytes) noexcept {
  if (bytes < size_ && ::ftruncate(fd_, static_cast<off_t>(bytes)) == 0) size_ = bytes;
}

}  // namespace strata::aio
