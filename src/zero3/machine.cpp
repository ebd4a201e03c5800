#include "strata/zero3/machine.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "strata/base/error.h"
#include "strata/formats/json.h"
#include "strata/tiering/budget.h"

namespace strata::zero3 {

namespace {

using formats::JsonValue;

constexpr std::size_t kFileBytesMax = 1u << 20;
constexpr double kMost = 1e24;
constexpr double kCountMost = 1024;

enum class Kind : std::uint8_t { kPositive, kCount, kOverlap, kShare };

std::string_view allowed(Kind kind) {
  switch (kind) {
    case Kind::kPositive: return "a number above 0 and at most 1e24";
    case Kind::kCount: return "a whole number from 1 to 1024";
    case Kind::kOverlap: return "a number from -4 to 1";
    case Kind::kShare: return "a number above 0 and at most 1";
  }
  return "";
}

bool is_allowed(Kind kind, double value) {
  switch (kind) {
    case Kind::kPositive: return value > 0 && value <= kMost;
    case Kind::kCount: return value >= 1 && value <= kCountMost && value == std::floor(value);
    case Kind::kOverlap: return value >= kDiskOverlapMin && value <= 1;
    case Kind::kShare: return value > 0 && value <= 1;
  }
  return false;
}

/// A key of a section: where its number goes. Exactly one of the two is set.
struct Field {
  std::string_view key;
  Kind kind = Kind::kPositive;
  SourcedNumber Machine::*needed = nullptr;
  std::optional<SourcedNumber> Machine::*optional = nullptr;
};

struct Section {
  std::string_view key;
  std::span<const Field> fields;
};

constexpr Field kDeviceFields[] = {
    {.key = "count", .kind = Kind::kCount, .optional = &Machine::device_count},
    {.key = "memory", .optional = &Machine::device_memory},
    {.key = "compute", .needed = &Machine::compute},
    {.key = "upload", .optional = &Machine::upload},
    {.key = "drain", .optional = &Machine::drain},
    {.key = "link", .optional = &Machine::link}};
constexpr Field kHostFields[] = {
    {.key = "memory", .needed = &Machine::host_memory},
    {.key = "update", .needed = &Machine::update},
    {.key = "add", .optional = &Machine::add},
    {.key = "copy", .optional = &Machine::copy},
    {.key = "check", .optional = &Machine::check},
    {.key = "cores", .kind = Kind::kCount, .optional = &Machine::cores}};
constexpr Field kDiskFields[] = {
    {.key = "count", .kind = Kind::kCount, .optional = &Machine::disk_count},
    {.key = "read", .optional = &Machine::disk_read},
    {.key = "write", .optional = &Machine::disk_write},
    {.key = "overlap", .kind = Kind::kOverlap, .optional = &Machine::disk_overlap},
    {.key = "beside_compute", .kind = Kind::kShare, .optional = &Machine::disk_beside_compute},
    {.key = "bytes", .optional = &Machine::disk_bytes},
    {.key = "endurance", .optional = &Machine::disk_endurance}};
constexpr Field kNetworkFields[] = {{.key = "receive", .optional = &Machine::network}};
constexpr Section kSections[] = {{"device", kDeviceFields},
                                 {"host", kHostFields},
                                 {"disk", kDiskFields},
                                 {"network", kNetworkFields}};

template <class Items>
std::string keys_of(const Items& items) {
  std::string keys;
  for (const auto& item : items) keys += (keys.empty() ? "" : ", ") + std::string(item.key);
  return keys;
}

[[noreturn]] void refuse_key(const JsonValue& value, const std::string& known) {
  value.fail("is no key of a machine file; there may be " + known);
}

/// "Measured" is a claim: it says by what.
void check_source(const JsonValue& source) {
  const std::string& text = source.as_string();
  const auto is_letter = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; };
  if (std::none_of(text.begin(), text.end(), is_letter)) {
    source.fail(
        "says nothing; write where the number is from, for example \"data sheet of X\", "
        "\"measured with X\" or \"assumed\"");
  }
  std::string letters;
  for (const char c : text) {
    if (is_letter(c)) letters += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  if (letters == "measured" || letters == "measuredhere") {
    source.fail(
        "says that the number was measured and not with what; write for example "
        "\"measured with ds_nvme_bench run, 2026-01-31\"");
  }
}

SourcedNumber read_number(const JsonValue& json, Kind kind) {
  for (const JsonValue::Member& member : json.members()) {
    if (member.key != "value" && member.key != "source") {
      refuse_key(member.value, "value and source here");
    }
  }
  SourcedNumber number;
  const auto value = json.find("value");
  const auto source = json.find("source");
  if (!value || !source) {
    json.fail("a number of a machine file is {\"value\": ..., \"source\": \"where it is from\"}");
  }
  number.value = value->as_double();
  if (!is_allowed(kind, number.value)) value->fail("must be " + std::string(allowed(kind)));
  check_source(*source);
  number.source = source->as_string();
  return number;
}

void read_section(const JsonValue& json, const Section& section, Machine& machine) {
  for (const JsonValue::Member& member : json.members()) {
    const auto field =
        std::find_if(section.fields.begin(), section.fields.end(),
                     [&](const Field& candidate) { return candidate.key == member.key; });
    if (field == section.fields.end()) {
      refuse_key(member.value,
                 keys_of(section.fields) + " in \"" + std::string(section.key) + "\"");
    }
    SourcedNumber number = read_number(member.value, field->kind);
    if (field->needed != nullptr) {
      machine.*field->needed = std::move(number);
    } else {
      machine.*field->optional = std::move(number);
    }
  }
  for (const Field& field : section.fields) {
    if (field.needed == nullptr || !(machine.*field.needed).source.empty()) continue;
    json.fail("\"" + std::string(field.key) + "\" is missing; every machine has one");
  }
}

/// What of one machine contradicts itself.
void check_whole(const JsonValue& json, const Machine& machine) {
  const auto require = [&](const std::optional<SourcedNumber>& number, const char* section,
                           const char* key, const char* why) {
    if (number) return;
    const std::optional<JsonValue> where = json.find(section);
    (where ? *where : json).fail("\"" + std::string(section) + "." + key + "\" is missing; " + why);
  };
  if (machine.has_accelerator()) {
    require(machine.upload, "device", "upload", "a device with memory of its own has one");
    require(machine.drain, "device", "drain", "a device with memory of its own has one");
    if (machine.disk_beside_compute) {
      json.at("disk")
          .at("beside_compute")
          .fail("is for machines without an accelerator, whose disks and arithmetic share cores");
    }
    if (machine.copy) {
      json.at("host").at("copy").fail(
          "is for machines without an accelerator; with \"device.memory\", \"device.upload\" and "
          "\"device.drain\" say what moves");
    }
  } else {
    require(machine.copy, "host", "copy", "without \"device.memory\" weights are copied within it");
    for (const char* key : {"upload", "drain"}) {
      if (const auto speed = json.at("device").find(key)) {
        speed->fail(
            "is of a device with memory of its own; name \"device.memory\" too, or give "
            "\"host.copy\" instead");
      }
    }
  }
  if (machine.disk_read || machine.disk_write) {
    require(machine.disk_read, "disk", "read", "a disk that is written is read");
    require(machine.disk_write, "disk", "write", "a disk that is read is written");
  } else if (const auto disk = json.find("disk")) {
    disk->fail("\"read\" and \"write\" are missing; leave \"disk\" out where there is none");
  }
}

}  // namespace

Machine Machine::from_text(std::string_view text, std::string name) {
  const JsonValue json = JsonValue::parse(text, std::move(name), formats::JsonRole::kConfig);
  Machine machine;
  for (const JsonValue::Member& member : json.members()) {
    const auto is_it = [&](const Section& section) { return section.key == member.key; };
    if (member.key == "name" || std::any_of(std::begin(kSections), std::end(kSections), is_it))
      continue;
    refuse_key(member.value, "name, " + keys_of(kSections));
  }
  machine.name = json.at("name").as_string();
  for (const Section& section : kSections) {
    const std::optional<JsonValue> found = json.find(section.key);
    if (found) {
      read_section(*found, section, machine);
    } else if (section.key == "device" || section.key == "host") {
      json.fail("\"" + std::string(section.key) +
                "\" is missing; a machine file has name, device, "
                "host, and as needed disk and network");
    }
  }
  check_whole(json, machine);
  return machine;
}

Machine Machine::from_file(const std::filesystem::path& path) {
  errno = 0;
  if (std::filesystem::is_directory(path)) {
    throw ConfigError("machine file " + path.string() + ": is a directory; name a file");
  }
  std::ifstream in(path, std::ios::binary);
  std::string text(kFileBytesMax + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in.is_open() || in.bad()) {
    throw system_error("cannot read the machine file", path.string(), errno);
  }
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > kFileBytesMax) {
    throw ConfigError("machine file " + path.string() + ": is larger than 1 MiB; no machine file");
  }
  return from_text(text, path.string());
}

std::string Machine::to_text() const {
  using Json = nlohmann::ordered_json;
  Json json;
  json["name"] = name;
  for (const Section& section : kSections) {
    for (const Field& field : section.fields) {
      const std::optional<SourcedNumber> number =
          field.needed != nullptr ? this->*field.needed : this->*field.optional;
      if (!number) continue;
      json[std::string(section.key)][std::string(field.key)] = {{"value", number->value},
                                                                {"source", number->source}};
    }
  }
  return json.dump(2, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) + "\n";
}

int Machine::devices() const { return device_count ? static_cast<int>(device_count->value) : 1; }

int Machine::disks() const {
  if (!disk_read) return 0;
  return disk_count ? static_cast<int>(disk_count->value) : 1;
}

RankSpeeds rank_speeds(const Machine& machine, int nodes) {
  if (nodes < 1) {
    throw ConfigError("a run on " + std::to_string(nodes) + " nodes; it has at least one");
  }
  const double devices = machine.devices();
  const double ranks = devices * nodes;
  RankSpeeds speeds;
  speeds.compute = machine.compute.value;
  speeds.update = machine.update.value / devices;
  speeds.add = machine.add ? machine.add->value / devices : speeds.update;
  if (machine.disk_read) {
    speeds.disk_read = machine.disk_read->value * machine.disks() / devices;
    speeds.disk_write = machine.disk_write->value * machine.disks() / devices;
    speeds.disk_overlap = machine.disk_overlap ? machine.disk_overlap->value : 0;
    if (machine.disk_beside_compute)
      speeds.disk_beside_compute = machine.disk_beside_compute->value;
  }
  speeds.shares_cores = !machine.has_accelerator();
  speeds.check = machine.check ? machine.check->value : 0;
  speeds.cores = machine.cores ? machine.cores->value / devices : 0;
  const double copy = machine.copy ? machine.copy->value / devices : 0;
  speeds.upload = machine.upload ? machine.upload->value : copy;
  speeds.drain = machine.drain ? machine.drain->value : copy;
  if (ranks == 1) return speeds;

  // Seconds for a byte that all ranks have a part of: what a node receives, then what goes round in
  // it.
  double seconds = 0;
  if (nodes > 1) {
    if (!machine.network) {
      throw ConfigError("machine \"" + machine.name +
                        "\": several nodes need \"network.receive\", the bytes/s of a node");
    }
    seconds = (nodes - 1.0) / nodes / machine.network->value;
  }
  if (devices > 1) {
    if (!machine.link) {
      throw ConfigError("machine \"" + machine.name +
                        "\": several devices need \"device.link\", the bytes/s that one receives "
                        "from the others of its node");
    }
    seconds = std::max(seconds, (devices - 1) / devices / machine.link->value);
  }
  speeds.exchange = (ranks - 1) / ranks / seconds;
  return speeds;
}

TierBytes rank_bytes(const Machine& machine) {
  const double devices = machine.devices();
  const auto whole = [](double bytes) { return static_cast<std::uint64_t>(std::floor(bytes)); };
  TierBytes bytes;
  bytes.host = whole(std::min(machine.host_memory.value / devices, 1e18));
  bytes.device =
      machine.has_accelerator() ? whole(std::min(machine.device_memory->value, 1e18)) : bytes.host;
  bytes.nvme = tiering::Budget::kUnlimited;
  if (machine.disks() == 0) bytes.nvme = 0;
  if (machine.disk_bytes) {
    bytes.nvme = whole(std::min(machine.disk_bytes->value * machine.disks() / devices, 1e18));
  }
  return bytes;
}

}  // namespace strata::zero3
