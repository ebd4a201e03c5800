#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// \file
/// Files of /proc and /sys, below any root: small, and there or not.

namespace strata::tool {

/// The content without the blanks around it; "" when it cannot be read.
[[nodiscard]] std::string system_text(const std::filesystem::path& file);

/// The number that the content begins with; nullopt for anything else.
[[nodiscard]] std::optional<std::int64_t> system_number(const std::filesystem::path& file);

/// What stands behind `key` and blanks in the line that begins with it; "" for none:
/// `system_value(root / "proc/self/status", "Seccomp:")` is "2".
[[nodiscard]] std::string system_value(const std::filesystem::path& file, std::string_view key);

/// The entries of a directory, in the order of their names; none when it cannot be read.
[[nodiscard]] std::vector<std::filesystem::path> system_entries(
    const std::filesystem::path& directory);

/// The number that a text begins with; nullopt for anything else.
[[nodiscard]] std::optional<std::int64_t> leading_number(std::string_view text);

}  // namespace strata::tool
