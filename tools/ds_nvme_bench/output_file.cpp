#include "output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "strata/base/error.h"

namespace strata::bench {

OutputFile::OutputFile(std::filesystem::path path) : path_(std::move(path)) {
  if (std::filesystem::is_directory(path_)) {
    throw system_error("write", path_.string(), EISDIR, "name a file");
  }
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
  if (!temporary_.empty()) std::filesystem::remove(temporary_, ignored);
}

void OutputFile::publish() {
  stream_.close();
  if (!stream_) throw system_error("write", temporary_.string(), errno, "is its disk full?");
  std::error_code error;
  std::filesystem::rename(temporary_, path_, error);
  if (error) throw system_error("write", path_.string(), error.value());
  temporary_.clear();
}

}  // namespace strata::bench
