#pragma once

#include <filesystem>
#include <string>

namespace strata::tool {

/// The text of the file that --model-config names. Throws ConfigError for a directory and for more
/// than 1 MiB, IoError when it cannot be read.
[[nodiscard]] std::string read_model_config(const std::filesystem::path& path);

}  // namespace strata::tool
