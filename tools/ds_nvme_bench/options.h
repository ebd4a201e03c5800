#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "point.h"
#include "report.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace strata::nvme_bench {

/// The options of all commands: where to measure and where the result goes.
struct TargetOptions {
  std::vector<std::filesystem::path> directories;
  std::optional<std::uint64_t> bytes;
  Format format = Format::kTable;
  std::optional<std::filesystem::path> output;
  std::chrono::nanoseconds timeout = kUsualTimeout;
};

/// Adds DIR..., --size, --format, --output, --timeout. A value that cannot be used is a ConfigError
/// that names its option.
void add_target_options(CLI::App& command, TargetOptions& options);

/// Adds --report.
void add_report_option(CLI::App& command, std::optional<std::filesystem::path>& report);

/// Adds --rw --bs --iodepth --threads --engine --direct --no-huge-pages --no-prepare --verify.
void add_point_options(CLI::App& command, Point& point);

/// Adds --runtime, --ramp-time.
void add_limit_options(CLI::App& command, Limits& limits);

/// Adds an option whose text `use` takes; its exceptions get the option's name in front. Given
/// twice, the last one counts, as with fio.
CLI::Option* add_text(CLI::App& command, const std::string& name, const std::string& help,
                      const std::string& type, const std::function<void(const std::string&)>& use);

/// Parses "5", "5s", "500ms", "2m". Throws ConfigError for anything else.
[[nodiscard]] std::chrono::nanoseconds parse_duration(std::string_view text);

/// Parses like parse_duration, but refuses less than a millisecond.
[[nodiscard]] std::chrono::nanoseconds parse_runtime(std::string_view text);

/// A whole number from 1. Throws ConfigError for anything else.
[[nodiscard]] std::uint32_t parse_count(const std::string& text);

}  // namespace strata::nvme_bench
