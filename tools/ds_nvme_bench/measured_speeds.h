#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "disk_time.h"

namespace strata::bench {

/// The speeds in a result of this program: what `tune --format=json` chose, or the fastest of each
/// direction of `run` and of the overview in fio's format (theirs and fio's own). Without a mixed
/// measurement the directions do not overlap. `name` is for messages.
/// Throws DataError for anything else, or when a direction was not measured.
[[nodiscard]] DiskSpeeds speeds_in_result(std::string_view json, const std::string& name);

/// Of a file; throws IoError too.
[[nodiscard]] DiskSpeeds speeds_from_file(const std::filesystem::path& path);

}  // namespace strata::bench
