#include "strata/formats/checkpoint_manifest.h"

#include <algorithm>
#include <charconv>
#include <climits>
#include <nlohmann/json.hpp>
#include <set>

#include "formats/file_location.h"
#include "formats/quote.h"
#include "formats/regular_file.h"
#include "strata/base/error.h"

namespace strata::formats {
namespace {

constexpr std::string_view kFormat = "strata checkpoint";
constexpr std::int64_t kVersion = 1;

/// Bounds for a manifest: some ten million parameters' names.
constexpr JsonLimits kManifestLimits{
    .bytes_max = std::size_t{1} << 30, .depth_max = 32, .values_max = std::size_t{1} << 25};

constexpr std::string_view kFirstLineBegin = "{\"manifest_crc32\": \"";
constexpr std::string_view kFirstLineEnd = "\",\n";

std::string first_line(std::string_view rest) {
  Crc32 sum;
  sum.add(std::as_bytes(std::span(rest)));
  return std::string(kFirstLineBegin) + crc_text(sum.value()) + std::string(kFirstLineEnd);
}

[[noreturn]] void fail_damaged(const std::filesystem::path& file, const std::string& why) {
  throw DataError(file.string() + ": " + why +
                  "; the checkpoint is damaged, or none; name another one of its directory");
}

std::uint32_t crc_at(const JsonValue& object) {
  const JsonValue value = object.at("crc32");
  const std::string& text = value.as_string();
  std::uint32_t crc = 0;
  const char* const end = text.data() + text.size();
  const auto [after, code] = std::from_chars(text.data(), end, crc, 16);
  if (text.size() != 8 || code != std::errc() || after != end) {
    value.fail("is no checksum of eight hexadecimal digits");
  }
  return crc;
}

std::int64_t count_at(const JsonValue& object, std::string_view key, std::int64_t smallest,
                      std::int64_t largest) {
  const JsonValue value = object.at(key);
  const std::int64_t count = value.as_int64();
  if (count < smallest || count > largest) {
    value.fail("is not from " + std::to_string(smallest) + " to " + std::to_string(largest));
  }
  return count;
}

CheckpointFile file_of(const JsonValue& object) {
  const JsonValue name = object.at("name");
  if (!is_plain_file_name(name.as_string())) name.fail("is not a plain file name");
  return {name.as_string(), Crc32(crc_at(object), object.at("bytes").as_uint64())};
}

CheckpointHead head_of(const JsonValue& root) {
  if (root.at("format").as_string() != kFormat)
    root.at("format").fail("is no checkpoint of Strata");
  const std::int64_t version = root.at("version").as_int64();
  if (version != kVersion) {
    root.at("version").fail("is " + std::to_string(version) + ", and this Strata reads version " +
                            std::to_string(kVersion) + "; use the one that wrote it");
  }
  CheckpointHead head{.tag = root.at("tag").as_string(),
                      .step = count_at(root, "step", 0, INT64_MAX),
                      .micro_steps = count_at(root, "micro_steps", 0, INT64_MAX),
                      .world_size = static_cast<int>(count_at(root, "world_size", 1, INT_MAX))};
  std::set<std::string_view> names;
  for (const JsonValue& file : root.at("files").elements()) {
    head.files.push_back(file_of(file));
    if (!names.insert(file.at("name").as_string()).second) file.fail("is named twice");
  }
  for (const JsonValue::Member& member : root.at("program").members()) {
    head.program.emplace(member.key, member.value.as_string());
  }
  return head;
}

}  // namespace

std::string manifest_text(const CheckpointHead& head,
                          const std::vector<std::pair<std::string, std::string>>& sections) {
  nlohmann::ordered_json root = {{"format", kFormat},
                                 {"version", kVersion},
                                 {"tag", head.tag},
                                 {"step", head.step},
                                 {"micro_steps", head.micro_steps},
                                 {"world_size", head.world_size},
                                 {"files", nlohmann::ordered_json::array()},
                                 {"program", nlohmann::ordered_json::object()}};
  for (const CheckpointFile& file : head.files) {
    root["files"].push_back(
        {{"name", file.name}, {"bytes", file.sum.bytes()}, {"crc32", crc_text(file.sum.value())}});
  }
  for (const auto& [name, value] : head.program) root["program"][name] = value;
  for (const auto& [key, text] : sections) root[key] = nlohmann::ordered_json::parse(text);
  try {
    const std::string rest = root.dump(1).substr(1) + "\n";  // without the brace
    return first_line(rest) + rest;
  } catch (const nlohmann::json::exception&) {
    throw UsageError("checkpoint '" + head.tag +
                     "': a name or value that the program gave for it is not UTF-8");
  }
}

CheckpointManifest::CheckpointManifest(std::filesystem::path directory, JsonValue root,
                                       std::uint32_t checksum)
    : directory_(std::move(directory)),
      root_(std::move(root)),
      checksum_(checksum),
      head_(head_of(root_)) {}

CheckpointManifest CheckpointManifest::read(const std::filesystem::path& directory) {
  const std::filesystem::path file = directory / kManifestName;
  const std::string text =
      read_text_file(file, RegularFile::Links::kRefuse, kManifestLimits.bytes_max);
  const std::size_t end = text.find('\n');
  if (!text.starts_with(kFirstLineBegin) || end == std::string::npos) {
    fail_damaged(file, "does not begin with a manifest's checksum");
  }
  const std::string_view rest = std::string_view(text).substr(end + 1);
  if (text.compare(0, end + 1, first_line(rest)) != 0) {
    fail_damaged(file, "its text does not have its checksum");
  }
  Crc32 sum;
  sum.add(std::as_bytes(std::span(text)));
  return {directory, JsonValue::parse(text, file.string(), JsonRole::kData, kManifestLimits),
          sum.value()};
}

const CheckpointFile* CheckpointManifest::find(std::string_view name) const {
  const auto found = std::ranges::find(head_.files, name, &CheckpointFile::name);
  return found == head_.files.end() ? nullptr : &*found;
}

void require_files(const CheckpointManifest& manifest) {
  for (const CheckpointFile& file : manifest.head().files) {
    const std::filesystem::path path = manifest.directory() / file.name;
    std::error_code code;
    if (!std::filesystem::exists(std::filesystem::symlink_status(path, code))) {
      fail_damaged(path, "the manifest names this file, and it is not there");
    }
    const std::uint64_t bytes = RegularFile(path, RegularFile::Links::kRefuse).size();
    if (bytes != file.sum.bytes()) {
      fail_damaged(path, "has " + std::to_string(bytes) + " bytes where the manifest says " +
                             std::to_string(file.sum.bytes()));
    }
  }
}

Crc32 checksum_of(const std::filesystem::path& path, std::uint64_t begin, std::uint64_t end,
                  const std::function<void()>& before_each_piece) {
  constexpr std::uint64_t kPiece = std::uint64_t{1} << 20;
  const RegularFile file(path, RegularFile::Links::kRefuse);
  std::vector<std::byte> piece(std::min(kPiece, end - begin));
  Crc32 sum;
  while (begin < end) {
    if (before_each_piece) before_each_piece();
    const std::span<std::byte> part = std::span(piece).first(std::min(kPiece, end - begin));
    file.read(begin, part);
    sum.add(part);
    begin += part.size();
  }
  return sum;
}

void require_checksum(const CheckpointManifest& manifest, const CheckpointFile& file,
                      const Crc32& actual) {
  if (actual == file.sum) return;
  fail_damaged(manifest.directory() / file.name,
               "its bytes have the checksum " + crc_text(actual.value()) +
                   " where the manifest says " + crc_text(file.sum.value()));
}

}  // namespace strata::formats
