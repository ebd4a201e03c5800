#include "strata/formats/checkpoint_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

#include "formats/file_location.h"
#include "formats/quote.h"
#include "formats/regular_file.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/formats/checkpoint_manifest.h"
#include "strata/formats/writable_file.h"

namespace strata::formats {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLatest = "latest";
constexpr std::string_view kPartial = ".strata-partial-";

bool is_tag(std::string_view tag) {
  return is_plain_file_name(tag) && !tag.starts_with('.') && tag != kLatest;
}

/// Opens the directory and locks it for as long as it is open.
int open_locked(const fs::path& directory) {
  const int descriptor = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) throw system_error("open", directory.string(), errno);
  if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(descriptor);
    throw system_error("lock", directory.string(), EWOULDBLOCK,
                       "another process is writing checkpoints there; give each run a directory "
                       "of its own");
  }
  return descriptor;  // locked, unless the file system has no locks
}

/// Makes a directory and those above it that are not there, each with its name synced.
void make_durably(const fs::path& directory) {
  if (directory.filename().empty()) {  // "/", or with a slash at the end
    if (directory.has_relative_path()) make_durably(directory.parent_path());
    return;
  }
  if (fs::exists(directory)) return;
  make_durably(directory.parent_path());
  if (fs::create_directory(directory)) sync_path(directory.parent_path());
}

/// Removes a checkpoint so that what is left of it in the middle does not look like one.
void remove_checkpoint(const fs::path& directory, const std::string& tag) {
  const fs::path hidden = directory / (std::string(kPartial) + "removed-" + tag);
  fs::remove_all(hidden);
  fs::rename(directory / tag, hidden);
  fs::remove_all(hidden);
}

void remove_leftovers(const fs::path& directory) {
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().filename().string().starts_with(kPartial)) fs::remove_all(entry.path());
  }
}

void write_durably(const fs::path& path, std::string_view text) {
  WritableFile file = WritableFile::create(path);
  file.write(0, std::as_bytes(std::span(text)));
  file.sync_and_close();
}

void rename_to(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) throw system_error("make", to.string(), errno);
}

}  // namespace

void check_tag(std::string_view tag) {
  if (is_tag(tag)) return;
  throw ConfigError("a checkpoint cannot be called " + quote(tag) +
                    ": its tag is a plain file name that does not begin with a dot, and not "
                    "\"latest\"");
}

std::optional<std::string> latest_tag(const fs::path& directory) {
  const fs::path path = directory / kLatest;
  std::error_code code;
  const fs::file_status status = fs::symlink_status(path, code);
  if (status.type() == fs::file_type::not_found) return std::nullopt;
  constexpr std::uint64_t kBytesMax = 4096;
  std::string tag = read_text_file(path, RegularFile::Links::kRefuse, kBytesMax);
  if (tag.ends_with('\n')) tag.pop_back();
  if (!is_tag(tag)) {
    throw DataError(path.string() + ": " + quote(tag) +
                    " is not the name of a checkpoint; name one yourself");
  }
  return tag;
}

std::vector<std::string> checkpoint_tags(const fs::path& directory) {
  std::vector<std::pair<fs::file_time_type, std::string>> found;
  std::error_code code;
  for (const auto& entry : fs::directory_iterator(directory, code)) {
    const std::string tag = entry.path().filename().string();
    if (!is_tag(tag) || !entry.is_directory(code)) continue;
    try {
      if (CheckpointManifest::read(entry.path()).head().tag != tag) continue;
    } catch (const Error&) {
      continue;  // not one of ours, or not whole
    }
    found.emplace_back(fs::last_write_time(entry.path() / kManifestName, code), tag);
  }
  std::ranges::sort(found, std::ranges::greater());
  std::vector<std::string> tags;
  tags.reserve(found.size());
  for (auto& [time, tag] : found) tags.push_back(std::move(tag));
  return tags;
}

fs::path CheckpointOutput::partial_path(const fs::path& directory, std::string_view tag) {
  return directory / (std::string(kPartial) + std::string(tag));
}

CheckpointOutput::CheckpointOutput(const fs::path& directory, std::string_view tag) try
    : directory_(directory), tag_(tag), partial_(partial_path(directory, tag)) {
  check_tag(tag);
  if (fs::exists(directory) && !fs::is_directory(directory)) {
    throw ConfigError("checkpoints cannot go to " + directory.string() +
                      ": it is not a directory; name another");
  }
  make_durably(fs::absolute(directory).lexically_normal());
  lock_ = open_locked(directory);
  try {
    remove_leftovers(directory);
    if (::mkdir(partial_.c_str(), 0777) != 0) {
      throw system_error("create", partial_.string(), errno);
    }
  } catch (...) {
    ::close(lock_);
    throw;
  }
} catch (const fs::filesystem_error& error) {
  throw system_error("write checkpoints to", error.path1().string(), error.code().value());
}

CheckpointOutput::~CheckpointOutput() {
  std::error_code ignored;  // what stays is removed by the next one
  fs::remove_all(partial_, ignored);
  ::close(lock_);
}

void CheckpointOutput::require_space(std::uint64_t bytes) const {
  std::error_code code;
  const fs::space_info space = fs::space(partial_, code);
  if (code || space.available >= bytes) return;  // a file system that cannot tell is tried
  throw system_error(
      "write a checkpoint of " + format_bytes(bytes) + " to", directory_.string(), ENOSPC,
      format_bytes(space.available) + " are free; free some space or name another directory");
}

void CheckpointOutput::publish(std::string_view manifest) try {
  write_durably(partial_ / kManifestName, manifest);
  sync_path(partial_);
  replace();
  sync_path(directory_);
  name_latest();
} catch (const fs::filesystem_error& error) {
  throw system_error("publish", (directory_ / tag_).string(), error.code().value());
}

/// Puts the new checkpoint in its place. One that is there already changes places with it at once,
/// so that there is no moment without either.
void CheckpointOutput::replace() const {
  const fs::path final_path = directory_ / tag_;
  if (::renameat2(AT_FDCWD, partial_.c_str(), AT_FDCWD, final_path.c_str(), RENAME_EXCHANGE) == 0) {
    return;
  }
  const int why = errno;  // nothing is there, or the file system cannot exchange names
  std::error_code code;
  if (fs::exists(final_path, code)) {
    if (latest_tag(directory_) == tag_) {
      throw system_error("replace", final_path.string(), why,
                         "`latest` names it, and this file system cannot exchange two names at "
                         "once; give the new checkpoint another tag");
    }
    remove_checkpoint(directory_, tag_);
  }
  rename_to(partial_, final_path);
}

void CheckpointOutput::name_latest() const {
  const fs::path partial = directory_ / (std::string(kPartial) + "latest");
  std::error_code ignored;
  fs::remove(partial, ignored);
  write_durably(partial, tag_ + "\n");
  rename_to(partial, directory_ / kLatest);
  sync_path(directory_);
}

void CheckpointOutput::prune(std::size_t keep) const {
  if (keep == 0) return;
  const std::optional<std::string> latest = latest_tag(directory_);
  const std::vector<std::string> tags = checkpoint_tags(directory_);
  try {
    for (std::size_t i = keep; i < tags.size(); ++i) {
      if (tags[i] != latest) remove_checkpoint(directory_, tags[i]);
    }
  } catch (const fs::filesystem_error& error) {
    throw system_error("remove the checkpoint", error.path1().string(), error.code().value());
  }
}

}  // namespace strata::formats
