#include "formats/regular_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <utility>

#include "strata/base/error.h"

namespace strata::formats {
namespace {

std::string_view kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

/// Opens with O_NONBLOCK: opening a FIFO without a writer would wait for one.
int open_for_reading(const std::filesystem::path& path, RegularFile::Links links) {
  int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  if (links == RegularFile::Links::kRefuse) flags |= O_NOFOLLOW;
  const int descriptor = ::open(path.c_str(), flags);
  if (descriptor >= 0) return descriptor;
  const int code = errno;
  if (code == ELOOP && links == RegularFile::Links::kRefuse) {
    throw DataError(path.string() + ": is a symbolic link; name the file that it points to");
  }
  throw system_error("open", path.string(), code,
                     code == ENOENT ? "check the path and the current directory" : "");
}

}  // namespace

RegularFile::RegularFile(std::filesystem::path path, Links links)
    : path_(std::move(path)), descriptor_(open_for_reading(path_, links)) {
  struct stat status {};
  const int code = ::fstat(descriptor_, &status) == 0 ? 0 : errno;
  if (code == 0 && S_ISREG(status.st_mode)) {
    size_ = static_cast<std::uint64_t>(status.st_size);
    return;
  }
  ::close(descriptor_);
  if (code != 0) throw system_error("stat", path_.string(), code);
  throw DataError(path_.string() + ": is " + std::string(kind_of(status.st_mode)) +
                  ", not a regular file");
}

RegularFile::~RegularFile() { ::close(descriptor_); }

void RegularFile::read(std::uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t count = ::pread(descriptor_, out.data(), out.size(), static_cast<off_t>(offset));
    if (count > 0) {
      offset += static_cast<std::uint64_t>(count);
      out = out.subspan(static_cast<std::size_t>(count));
      continue;
    }
    const int code = count < 0 ? errno : 0;
    if (code == EINTR) continue;
    const std::string place = path_.string() + " at byte " + std::to_string(offset);
    if (code != 0) throw system_error("read", place, code);
    throw IoError("read " + place + ": the file ends here, " + std::to_string(out.size()) +
                      " bytes early; was it changed meanwhile?",
                  0);
  }
}

std::string read_text_file(const std::filesystem::path& path, RegularFile::Links links,
                           std::uint64_t bytes_max) {
  const RegularFile file(path, links);
  if (file.size() > bytes_max) {
    throw DataError(path.string() + ": " + std::to_string(file.size()) + " bytes, at most " +
                    std::to_string(bytes_max) + " are read");
  }
  std::string text(file.size(), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

}  // namespace strata::formats
