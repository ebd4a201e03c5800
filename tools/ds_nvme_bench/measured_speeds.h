#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "disk_time.h"

namespace strata::nvme_bench {

/// The content of a result.
struct MeasuredSpeeds {
  DiskSpeeds speeds;
  std::vector<std::string> warnings;  ///< reasons not to trust it, each with `name`
};

/// The speeds in a result of this program: what `tune --format=json` chose, or the fastest of each
/// direction of `run` and of the overview in fio's format (theirs and fio's own, json+ too).
/// Without a mixed measurement the directions do not overlap. Lines around the JSON are passed
/// over, and errors among them are warnings. Of several results in a row (--status-interval) the
/// last counts. `name` is for messages. Throws DataError for anything else, for a result that ends
/// too early, or when a direction was not measured.
[[nodiscard]] MeasuredSpeeds speeds_in_result(std::string_view text, const std::string& name);

/// The speeds in the result in a file; throws IoError too.
[[nodiscard]] MeasuredSpeeds speeds_from_file(const std::filesystem::path& path);

}  // namespace strata::nvme_bench
