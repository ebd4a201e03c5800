#include "output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "strata/base/error.h"

namespace strata::tool {

namespace {

namespace fs = std::filesystem;

/// The names under /proc of files that a process has open: no names in a directory.
bool names_an_open_file(const fs::path& path) {
  std::error_code ignored;
  return fs::canonical(path.parent_path(), ignored).string().starts_with("/proc/");
}

/// The path that `path` links to, or nothing when it is no link.
std::optional<fs::path> next_link(const fs::path& path) {
  std::error_code error;
  const fs::path link = fs::read_symlink(path, error);
  if (error) return std::nullopt;
  return path.parent_path() / link;
}

/// Whether a file takes the place of what is at `path`, not only its content.
bool is_replaced(const fs::path& path) {
  std::error_code ignored;
  const fs::file_type type = fs::status(path, ignored).type();
  if (type != fs::file_type::regular) return type == fs::file_type::not_found;
  for (std::optional<fs::path> link = path; link; link = next_link(*link)) {
    if (names_an_open_file(*link)) return false;
  }
  return true;
}

}  // namespace

fs::path behind_links(fs::path path) {
  constexpr int kLinksMax = 40;  // the kernel's limit
  for (int i = 0; i < kLinksMax; ++i) {
    const std::optional<fs::path> link = next_link(path);
    if (!link) return path;
    path = *link;
  }
  throw system_error("follow the links of", path.string(), ELOOP);
}

OutputFile::OutputFile(fs::path path) : path_(std::move(path)) {
  std::error_code ignored;
  if (fs::is_directory(path_, ignored)) {
    throw system_error("write", path_.string(), EISDIR, "name a file");
  }
  if (!is_replaced(path_)) {
    stream_.open(path_, std::ios::binary | std::ios::app);
    if (!stream_) throw system_error("write", path_.string(), errno);
    return;
  }
  path_ = behind_links(path_);
  temporary_ = path_;
  temporary_ += ".tmp-" + std::to_string(::getpid());
  const int fd =
      ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (fd < 0) {
    throw system_error("write", path_.string(), errno,
                       "name a file in an existing directory that this user may write to");
  }
  ::close(fd);
  stream_.open(temporary_, std::ios::binary);
}

OutputFile::~OutputFile() {
  std::error_code ignored;
  if (!temporary_.empty()) fs::remove(temporary_, ignored);
}

void OutputFile::publish() {
  stream_.close();
  if (!stream_) throw system_error("write", path_.string(), errno, "is its disk full?");
  if (temporary_.empty()) return;
  std::error_code error;
  fs::rename(temporary_, path_, error);
  if (error) throw system_error("write", path_.string(), error.value());
  temporary_.clear();
}

}  // namespace strata::tool
