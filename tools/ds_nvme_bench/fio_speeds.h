#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "disk_time.h"

namespace strata::nvme_bench {

/// The fastest speed of each direction among the sequential measurements of a result of fio.
///
/// A measurement is a group of fio's jobs, which ran at the same time: their speeds add up, and a
/// group that reads and writes is a mixed one. Jobs of this program ran one after the other. A
/// group with jobs of another kind (random, trim) measures nothing that a plan needs. 0 for a
/// direction that no group has. Throws what nlohmann::json throws where the fields are others.
[[nodiscard]] DiskSpeeds speeds_of_fio(const nlohmann::json& result);

/// The jobs of the result that ended with an error, in words.
[[nodiscard]] std::vector<std::string> failed_jobs(const nlohmann::json& result);

/// Whether a line that fio printed beside its JSON says that something went wrong.
[[nodiscard]] bool is_complaint(std::string_view line);

}  // namespace strata::nvme_bench
