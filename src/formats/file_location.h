#pragma once

#include <filesystem>
#include <string_view>

namespace strata::formats {

/// Whether an index may use this name for a file: a plain name in the same directory, at most 255
/// bytes of printable characters; no '/', no '\\', neither "." nor "..", no control character.
[[nodiscard]] bool is_plain_file_name(std::string_view name);

/// The real path of `name` in `directory`. A symbolic link must end inside of the directory, or,
/// for a snapshot of a Hugging Face cache (.../snapshots/<revision>), in .../blobs.
/// Throws DataError for a link that leaves, IoError for a file that is not there.
[[nodiscard]] std::filesystem::path locate_file(const std::filesystem::path& directory,
                                                std::string_view name);

}  // namespace strata::formats
