#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include "format.h"
#include "point.h"

namespace strata::bench {

/// Where to measure and where the result goes: what all commands have.
struct TargetOptions {
  std::vector<std::filesystem::path> directories;
  std::optional<std::uint64_t> bytes;
  Format format = Format::kTable;
  std::optional<std::filesystem::path> output;
};

/// DIR..., --size, --format, --output. A value that cannot be used is a ConfigError that names its
/// option.
void add_target_options(CLI::App& command, TargetOptions& options);

/// --rw, --bs, --iodepth, --threads, --engine, --direct, --no-huge-pages, --no-prepare, --verify.
void add_point_options(CLI::App& command, Point& point);

/// --runtime, --ramp-time.
void add_limit_options(CLI::App& command, Limits& limits);

/// "5", "5s", "500ms", "2m". Throws ConfigError for anything else.
[[nodiscard]] std::chrono::nanoseconds parse_duration(std::string_view text);

}  // namespace strata::bench
