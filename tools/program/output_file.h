#pragma once

#include <filesystem>
#include <fstream>
#include <ostream>

namespace strata::tool {

/// The path that symbolic links lead to in the end, even if nothing is there. Throws IoError for
/// links in a circle.
[[nodiscard]] std::filesystem::path behind_links(std::filesystem::path path);

/// A file that appears complete or not at all: written under a temporary name beside it, and
/// renamed by `publish`. Without that, nothing is left of it. A symbolic link keeps pointing to it.
/// A target that is no regular file (/dev/null, a pipe), or is open already (/dev/stdout), is
/// written to as it is.
class OutputFile {
 public:
  /// Throws IoError when nothing can be written there, so that this is known before measuring.
  explicit OutputFile(std::filesystem::path path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  [[nodiscard]] std::ostream& stream() noexcept { return stream_; }
  /// Throws IoError when not all of it could be written.
  void publish();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;  // empty: none, or not any more
  std::ofstream stream_;
};

}  // namespace strata::tool
