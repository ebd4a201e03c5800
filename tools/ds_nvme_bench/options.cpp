#include "options.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>

#include "number_text.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::nvme_bench {
namespace {

constexpr double kSecondsMax = 1e7;  // four months

}  // namespace

CLI::Option* add_text(CLI::App& command, const std::string& name, const std::string& help,
                      const std::string& type, const std::function<void(const std::string&)>& use) {
  const auto named = [name, use](const std::string& text) {
    try {
      use(text);
    } catch (const ConfigError& error) {
      throw ConfigError(name + ": " + error.what());
    }
  };
  return command.add_option_function<std::string>(name, named, help)
      ->type_name(type)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

std::uint32_t parse_count(const std::string& text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) throw ConfigError("\"" + text + "\" is too large");
  if (error != std::errc() || end != text.data() + text.size() || value == 0) {
    throw ConfigError("\"" + text + "\" is not a whole number above 0");
  }
  return value;
}

std::chrono::nanoseconds parse_duration(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  const double seconds = unit.empty() || unit == "s" ? value
                         : unit == "ms"              ? value * 1e-3
                         : unit == "m"               ? value * 60
                                                     : -1;
  if (error != std::errc() || !(seconds >= 0 && seconds <= kSecondsMax)) {
    throw ConfigError("\"" + std::string(text) +
                      "\" is not a time; write for example 5, 0.5, 500ms or 2m");
  }
  return std::chrono::nanoseconds(std::llround(seconds * 1e9));
}

std::chrono::nanoseconds parse_runtime(std::string_view text) {
  const std::chrono::nanoseconds time = parse_duration(text);
  if (time < std::chrono::milliseconds(1)) {
    throw ConfigError("nothing is measured in less than a millisecond");
  }
  return time;
}

void add_target_options(CLI::App& command, TargetOptions& options) {
  constexpr const char* kGroup = "Target and result";
  command.add_option("DIR", options.directories, "Directories to measure in, one on each disk")
      ->type_name("")
      ->group(kGroup);
  add_text(command, "--size", "Of all files together [2GiB, or a quarter of what is free]", "BYTES",
           [&options](const std::string& text) {
             options.bytes = parse_bytes(text);
             if (*options.bytes == 0) throw ConfigError("nothing can be measured over 0 bytes");
           })
      ->group(kGroup);
  add_text(command, "--format", "table, json (fio's fields), jsonl, csv or md [table]", "NAME",
           [&options](const std::string& text) { options.format = parse_format(text); })
      ->group(kGroup);
  command.add_option("--output", options.output, "Write the result there, complete or not at all")
      ->type_name("FILE")
      ->group(kGroup);
  const auto seconds = compact(std::chrono::duration<double>(options.timeout).count());
  add_text(command, "--timeout",
           "The disk is given up when it does not answer for [" + seconds + "]", "TIME",
           [&options](const std::string& text) {
             options.timeout = parse_duration(text);
             if (options.timeout < kTimeoutMin) {
               throw ConfigError("no disk answers in less than a millisecond each time");
             }
           })
      ->group(kGroup);
}

void add_report_option(CLI::App& command, std::optional<std::filesystem::path>& report) {
  command.add_option("--report", report, "Write a page with charts there, for a browser")
      ->type_name("FILE.html")
      ->group("Target and result");
}

void add_point_options(CLI::App& command, Point& point) {
  constexpr const char* kGroup = "What is measured";
  add_text(command, "--rw",
           "read, write, readwrite, randread, randwrite, randrw, trainstep (as training moves its "
           "state) [read]",
           "NAME", [&point](const std::string& text) { point.workload = parse_workload(text); })
      ->group(kGroup);
  add_text(command, "--bs", "Bytes of one request [1M]", "BYTES",
           [&point](const std::string& text) { point.block_bytes = parse_bytes(text); })
      ->group(kGroup);
  add_text(command, "--iodepth", "Requests in flight, of each thread [32]", "N",
           [&point](const std::string& text) { point.depth = parse_count(text); })
      ->group(kGroup);
  add_text(command, "--threads", "Each with a queue and a part of every file of its own [1]", "N",
           [&point](const std::string& text) { point.threads = parse_count(text); })
      ->group(kGroup);
  add_text(command, "--engine", "auto, io_uring, libaio, threads, or null: moves nothing [auto]",
           "NAME", [&point](const std::string& text) { point.engine = parse_engine(text); })
      ->group(kGroup);
  add_text(command, "--direct", "1: O_DIRECT; 0: through the page cache [1]", "0|1",
           [&point](const std::string& text) {
             if (text != "0" && text != "1") throw ConfigError("\"" + text + "\" is not 0 or 1");
             point.direct = text == "1";
           })
      ->group(kGroup);
  command
      .add_flag_callback(
          "--no-huge-pages", [&point] { point.huge_pages = false; }, "Buffers of small pages")
      ->group(kGroup);
  command
      .add_flag_callback(
          "--no-prepare", [&point] { point.prepare = false; },
          "Buffers and files not registered with the engine")
      ->group(kGroup);
  command
      .add_flag("--verify", point.verify,
                "Write blocks with their place and a checksum, and check every block read")
      ->group(kGroup);
}

void add_limit_options(CLI::App& command, Limits& limits) {
  constexpr const char* kGroup = "How long";
  const auto seconds = compact(std::chrono::duration<double>(limits.runtime).count());
  add_text(command, "--runtime", "Of a measurement: 5, 500ms, 2m [" + seconds + "]", "TIME",
           [&limits](const std::string& text) { limits.runtime = parse_runtime(text); })
      ->group(kGroup);
  add_text(command, "--ramp-time", "Time before it, left out of the result [200ms]", "TIME",
           [&limits](const std::string& text) { limits.ramp = parse_duration(text); })
      ->group(kGroup);
}

}  // namespace strata::nvme_bench
