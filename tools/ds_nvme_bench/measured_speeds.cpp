#include "measured_speeds.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "fio_speeds.h"
#include "strata/base/error.h"

namespace strata::nvme_bench {
namespace {

using Json = nlohmann::json;

/// JSON among the lines that a program printed before and after it.
struct JsonInText {
  std::vector<Json> objects;       ///< at least one, in their order
  std::vector<std::string> lines;  ///< all others that are not empty
};

constexpr std::string_view kLineEnds = "\n\r";  // fio goes back to the start of its status line
constexpr std::string_view kBlanks = " \t\n\r";

/// The bracket that begins an object, looked for from a place between lines; npos without one.
std::size_t find_object(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t first = text.find_first_not_of(kBlanks, at);
    if (first == std::string_view::npos) break;
    if (text[first] == '{') return first;
    at = std::min(text.find_first_of(kLineEnds, first), text.size());
  }
  return std::string_view::npos;
}

void add_lines(std::string_view text, std::vector<std::string>& lines) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find_first_of(kLineEnds), text.size());
    const std::string_view line = text.substr(0, end);
    if (line.find_first_not_of(kBlanks) != std::string_view::npos) lines.emplace_back(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

/// Takes the object that `text` begins with off its front.
Json take_object(std::string_view& text, const std::string& name) {
  std::istringstream stream{std::string(text)};
  Json object;
  try {
    stream >> object;
  } catch (const Json::parse_error& error) {
    if (error.byte < text.find_last_not_of(kBlanks) + 1) {
      throw DataError(name + ": its JSON is damaged: " + error.what());
    }
    throw DataError(name +
                    ": ends in the middle of its JSON, as the output of a program that was stopped "
                    "does; measure again, and let it end by itself");
  }
  const auto end = stream.rdbuf()->pubseekoff(0, std::ios::cur, std::ios::in);
  text.remove_prefix(static_cast<std::size_t>(std::streamoff{end}));
  return object;
}

/// An object begins with the first `{` of a line; where no line begins so, with the first `{`.
/// `name` is for messages. Throws DataError for a text without an object, for one that ends before
/// its object does, and for an object that is not JSON.
JsonInText find_json(std::string_view text, const std::string& name) {
  JsonInText found;
  std::size_t begin = find_object(text);
  if (begin == std::string_view::npos) begin = text.find('{');
  if (begin == std::string_view::npos) {
    throw DataError(name +
                    (text.find_first_not_of(kBlanks) == std::string_view::npos
                         ? ": is empty"
                         : ": holds no JSON object") +
                    "; a result is written with --format=json, by fio with --output-format=json");
  }
  while (begin != std::string_view::npos) {
    add_lines(text.substr(0, begin), found.lines);
    text.remove_prefix(begin);
    found.objects.push_back(take_object(text, name));
    begin = find_object(text);
  }
  add_lines(text, found.lines);
  return found;
}

DiskSpeeds speeds_of_tune(const Json& chosen) {
  return {.read = chosen.at("read_bytes_per_second"),
          .write = chosen.at("write_bytes_per_second"),
          .mixed_read = chosen.at("mixed_read_bytes_per_second"),
          .mixed_write = chosen.at("mixed_write_bytes_per_second")};
}

/// The first complaints of fio.
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

}  // namespace strata::nvme_bench
