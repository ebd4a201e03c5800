#include "measured_speeds.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

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

DiskSpeeds speeds_of_jobs(const Json& jobs) {
  DiskSpeeds speeds;
  for (const Json& job : jobs) {
    const std::string workload = job.at("job options").value("rw", "");
    const double read = job.at("read").at("bw_bytes");
    const double write = job.at("write").at("bw_bytes");
    if (workload == "read") speeds.read = std::max(speeds.read, read);
    if (workload == "write") speeds.write = std::max(speeds.write, write);
    const bool is_mix = workload == "rw" || workload == "readwrite";
    if (is_mix && read + write > speeds.mixed_read + speeds.mixed_write) {
      speeds.mixed_read = read;
      speeds.mixed_write = write;
    }
  }
  return speeds;
}

}  // namespace

DiskSpeeds speeds_in_result(std::string_view text, const std::string& name) {
  DiskSpeeds speeds;
  try {
    const Json json = Json::parse(text);
    speeds =
        json.contains("chosen") ? speeds_of_tune(json["chosen"]) : speeds_of_jobs(json.at("jobs"));
  } catch (const Json::exception& error) {
    throw DataError(name +
                    ": not a result of ds_nvme_bench (--format=json) or fio: " + error.what());
  }
  if (speeds.read > 0 && speeds.write > 0) return speeds;
  throw DataError(name + ": has no sequential " + (speeds.read > 0 ? "write" : "read") +
                  "; a plan needs both directions, as `ds_nvme_bench tune DIR --format=json` "
                  "measures them");
}

DiskSpeeds speeds_from_file(const std::filesystem::path& path) {
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
