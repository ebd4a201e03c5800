#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "strata/formats/ds_config.h"

namespace strata::tool {

/// What decides the numbers of a run, by the names that people know it by.
using RunFacts = std::map<std::string, std::string>;

/// Every key of a config that changes the numbers, and its value: all but where states rest, how
/// they move, what is printed, and how many ranks share the batch.
[[nodiscard]] RunFacts facts_of(const formats::DsConfig& config);

/// Throws ConfigError, naming every fact that differs and both values, unless a run of `now` goes
/// on as the one that saved `checkpoint` would have.
void require_same_facts(const RunFacts& saved, const RunFacts& now,
                        const std::filesystem::path& checkpoint);

}  // namespace strata::tool
