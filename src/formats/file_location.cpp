#include "formats/file_location.h"

#include <algorithm>
#include <system_error>

#include "formats/quote.h"
#include "strata/base/error.h"

namespace strata::formats {
namespace {

namespace fs = std::filesystem;

fs::path resolve(const fs::path& path) {
  std::error_code error;
  fs::path resolved = fs::canonical(path, error);
  if (error) throw system_error("open", path.string(), error.value());
  return resolved;
}

bool lies_in(const fs::path& path, const fs::path& directory) {
  const auto [end, rest] =
      std::mismatch(directory.begin(), directory.end(), path.begin(), path.end());
  return end == directory.end() && rest != path.end();
}

}  // namespace

bool is_plain_file_name(std::string_view name) {
  constexpr std::size_t kLengthMax = 255;
  if (name.empty() || name.size() > kLengthMax || name == "." || name == "..") return false;
  return std::none_of(name.begin(), name.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return c == '/' || c == '\\' || byte < 0x20 || byte == 0x7f;
  });
}

fs::path locate_file(const fs::path& directory, std::string_view name) {
  const fs::path root = resolve(directory);
  fs::path target = resolve(root / name);
  if (lies_in(target, root)) return target;
  const fs::path snapshots = root.parent_path();
  if (snapshots.filename() == "snapshots" && lies_in(target, snapshots.parent_path() / "blobs")) {
    return target;
  }
  throw DataError((directory / name).string() + ": is a symbolic link to " +
                  quote(target.string()) +
                  ", outside of the model's directory; copy the file if it is meant to be read");
}

}  // namespace strata::formats
