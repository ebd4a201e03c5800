#include "strata/formats/output_directory.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <string>
#include <system_error>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/formats/writable_file.h"

namespace strata::formats {
namespace {

namespace fs = std::filesystem;

/// Makes the contents durable first, then the directory that names them.
void sync_tree(const fs::path& directory) {
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.is_symlink()) continue;
    if (entry.is_directory()) {
      sync_tree(entry.path());
    } else {
      sync_path(entry.path());
    }
  }
  sync_path(directory);
}

void check_free(const fs::path& path) {
  const auto status = fs::symlink_status(path);
  if (status.type() == fs::file_type::not_found) return;
  if (status.type() != fs::file_type::directory) {
    throw ConfigError("output directory " + path.string() +
                      ": exists and is not a directory; name another");
  }
  if (!fs::is_empty(path)) {
    throw ConfigError("output directory " + path.string() +
                      ": exists and is not empty; name another or remove it");
  }
}

/// Two processes may write the same output at the same time: each has its own directory, and the
/// first to publish wins. The mode is left to the umask.
fs::path make_partial_directory(const fs::path& final_path) {
  constexpr int kAttempts = 1000;
  const std::string stem =
      "." + final_path.filename().string() + ".partial-" + std::to_string(::getpid()) + "-";
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    fs::path path = final_path.parent_path() / (stem + std::to_string(attempt));
    if (::mkdir(path.c_str(), 0777) == 0) return path;
    if (errno != EEXIST) {
      throw system_error("create", path.string(), errno, "the output directory is made beside it");
    }
  }
  throw system_error("create", (final_path.parent_path() / stem).string(), EEXIST,
                     "remove the leftovers of earlier runs");
}

}  // namespace

OutputDirectory::OutputDirectory(const fs::path& final_path) try
    : final_path_(fs::absolute(final_path).lexically_normal()) {
  if (!final_path_.has_filename()) final_path_ = final_path_.parent_path();  // "runs/gpt2/"
  check_free(final_path_);
  fs::create_directories(final_path_.parent_path());
  partial_path_ = make_partial_directory(final_path_);
} catch (const fs::filesystem_error& error) {
  throw system_error("create the output directory", error.path1().string(), error.code().value());
}

OutputDirectory::~OutputDirectory() {
  if (published_) return;
  std::error_code ignored;  // nothing left to do about it in a destructor
  fs::remove_all(partial_path_, ignored);
}

void OutputDirectory::require_space(std::uint64_t bytes) const {
  std::error_code code;
  const fs::space_info space = fs::space(partial_path_, code);
  if (code || space.available >= bytes) return;  // a file system that cannot tell is tried
  throw system_error("write " + format_bytes(bytes) + " to", partial_path_.string(), ENOSPC,
                     format_bytes(space.available) +
                         " are free; free some space or name another output directory");
}

void OutputDirectory::publish() {
  STRATA_CHECK(!published_, final_path_.string());
  published_ = true;
  try {
    sync_tree(partial_path_);
  } catch (const fs::filesystem_error& error) {
    throw system_error("read", error.path1().string(), error.code().value());
  }
  // Replaces an empty directory, nothing else.
  if (::rename(partial_path_.c_str(), final_path_.c_str()) != 0) {
    throw system_error(
        "publish", final_path_.string(), errno,
        "the complete output is " + partial_path_.string() + ", move it to where it belongs");
  }
  sync_path(final_path_.parent_path());
}

void write_text(const fs::path& path, std::string_view text) {
  errno = 0;
  std::ofstream out(path, std::ios::binary);
  out << text;
  out.close();
  if (!out) throw system_error("cannot write", path.string(), errno);
}

}  // namespace strata::formats
