#include "measured_speeds.h"

#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "fio_speeds.h"
#include "json_in_text.h"
#include "strata/base/error.h"

namespace strata::bench {
namespace {

using Json = nlohmann::json;

DiskSpeeds speeds_of_tune(const Json& chosen) {
  return {.read = chosen.at("read_bytes_per_second"),
          .write = chosen.at("write_bytes_per_second"),
          .mixed_read = chosen.at("mixed_read_bytes_per_second"),
          .mixed_write = chosen.at("mixed_write_bytes_per_second")};
}

/// What fio complained about, the first times.
std::vector<std::string> complaints(const JsonInText& text, const std::string& name) {
  constexpr std::size_t kShown = 3;
  std::vector<std::string> warnings;
  std::size_t count = 0;
  for (const std::string& line : text.lines) {
    if (!is_complaint(line)) continue;
    if (++count <= kShown) warnings.push_back(name + ": fio says: " + line);
  }
  if (count > kShown) {
    warnings.push_back(name + ": and " + std::to_string(count - kShown) + " more such lines");
  }
  return warnings;
}

}  // namespace

MeasuredSpeeds speeds_in_result(std::string_view text, const std::string& name) {
  const JsonInText found = find_json(text, name);
  const Json& result = found.objects.back();
  MeasuredSpeeds measured{.speeds = {}, .warnings = complaints(found, name)};
  if (found.objects.size() > 1) {
    measured.warnings.push_back(name + ": holds " + std::to_string(found.objects.size()) +
                                " results one after the other; the last one is taken");
  }
  try {
    if (result.contains("chosen")) {
      measured.speeds = speeds_of_tune(result["chosen"]);
    } else {
      measured.speeds = speeds_of_fio(result);
      for (const std::string& failed : failed_jobs(result)) {
        measured.warnings.push_back(name + ": " + failed);
      }
    }
  } catch (const Json::exception& error) {
    throw DataError(name +
                    ": not a result of ds_nvme_bench (--format=json) or fio: " + error.what());
  }
  const DiskSpeeds& speeds = measured.speeds;
  if (speeds.read > 0 && speeds.write > 0) return measured;
  std::string message = name + ": has no sequential " + (speeds.read > 0 ? "write" : "read") +
                        "; a plan needs both directions, as `ds_nvme_bench tune DIR --format=json` "
                        "measures them";
  for (const std::string& warning : measured.warnings) message += "\n" + warning;
  throw DataError(message);
}

MeasuredSpeeds speeds_from_file(const std::filesystem::path& path) {
  const auto type = std::filesystem::status(path).type();
  if (type == std::filesystem::file_type::character || type == std::filesystem::file_type::block) {
    throw ConfigError(path.string() + " is a device, not a result; measure a directory on it");
  }
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file) throw system_error("read", path.string(), errno);
  return speeds_in_result(std::move(text).str(), path.string());
}

}  // namespace strata::bench
