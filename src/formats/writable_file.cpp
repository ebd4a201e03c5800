#include "strata/formats/writable_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::formats {

WritableFile::WritableFile(std::filesystem::path path, int flags)
    : path_(std::move(path)),
      descriptor_(::open(path_.c_str(), O_WRONLY | O_NOFOLLOW | O_CLOEXEC | flags, 0666)) {
  if (descriptor_ >= 0) return;
  throw system_error((flags & O_CREAT) != 0 ? "create" : "open", path_.string(), errno);
}

WritableFile WritableFile::create(std::filesystem::path path) {
  return {std::move(path), O_CREAT | O_EXCL};
}

WritableFile WritableFile::create_with_room(std::filesystem::path path, std::uint64_t bytes) {
  WritableFile file = create(std::move(path));
  const auto size = static_cast<off_t>(bytes);
  int code = 0;
  while (bytes > 0 && ::fallocate(file.descriptor_, 0, 0, size) != 0) {
    code = errno;
    if (code != EINTR) break;
    code = 0;
  }
  if (code == EOPNOTSUPP) code = ::ftruncate(file.descriptor_, size) == 0 ? 0 : errno;
  if (code != 0) {
    throw system_error("take " + format_bytes(bytes) + " for", file.path_.string(), code);
  }
  return file;
}

WritableFile WritableFile::open(std::filesystem::path path) { return {std::move(path), 0}; }

WritableFile::WritableFile(WritableFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

WritableFile& WritableFile::operator=(WritableFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

WritableFile::~WritableFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void WritableFile::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count =
        ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      throw system_error("write", path_.string(), errno,
                         std::to_string(bytes.size()) + " bytes were still to be written");
    }
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
}

void WritableFile::sync_and_close() {
  if (::fsync(descriptor_) != 0) throw system_error("sync", path_.string(), errno);
  if (::close(std::exchange(descriptor_, -1)) != 0) {
    throw system_error("close", path_.string(), errno);
  }
}

void sync_path(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) throw system_error("open", path.string(), errno);
  const int code = ::fsync(descriptor) == 0 ? 0 : errno;
  ::close(descriptor);
  if (code != 0) throw system_error("sync", path.string(), code);
}

}  // namespace strata::formats
