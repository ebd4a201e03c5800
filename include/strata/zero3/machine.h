#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "strata/zero3/plan.h"
#include "strata/zero3/step_model.h"

/// \file
/// A machine in numbers, each with where it is from: what a step is forecast for.

namespace strata::zero3 {

/// A number of a machine file.
struct SourcedNumber {
  double value = 0;
  std::string source;  ///< for people: "data sheet of ...", "measured with ...", "assumed"
  bool operator==(const SourcedNumber&) const = default;
};

/// One node of a machine; all of its nodes are alike. It reads from a machine file:
///
///     {
///       "name": "a workstation",
///       "device": {
///         "count":   {"value": 1, "source": "assumed"},
///         "memory":  {"value": 24e9, "source": "data sheet of ..."},
///         "compute": {"value": 100e12, "source": "measured with ..."},
///         "upload":  {"value": 25e9, "source": "..."},
///         "drain":   {"value": 25e9, "source": "..."}
///       },
///       "host": {"memory": {...}, "update": {...}, "add": {...}},
///       "disk": {"count": {...}, "read": {...}, "write": {...}, "overlap": {...},
///                "bytes": {...}, "endurance": {...}}
///     }
///
/// Bytes, bytes/s and FLOP/s, without prefixes. The comments below say what may be left out.
struct Machine {
  std::string name;

  // "device": accelerators. Without a "memory" there is none: its arithmetic runs on the host's
  // cores and its memory is the host's.
  std::optional<SourcedNumber> device_count;   ///< in a node; left out: 1
  std::optional<SourcedNumber> device_memory;  ///< of one
  SourcedNumber compute;                       ///< FLOP/s that forward and backward reach on one
  std::optional<SourcedNumber> upload;         ///< bytes/s to one, all at once; with memory only
  std::optional<SourcedNumber> drain;          ///< bytes/s from one, all at once; with memory only
  std::optional<SourcedNumber> link;  ///< bytes/s that one receives from others of its node

  // "host"
  SourcedNumber host_memory;
  SourcedNumber update;                ///< bytes/s, see RankSpeeds::update; of all cores together
  std::optional<SourcedNumber> add;    ///< see RankSpeeds::add; left out: as fast as an update
  std::optional<SourcedNumber> copy;   ///< bytes/s within host memory; without an accelerator only
  std::optional<SourcedNumber> check;  ///< see RankSpeeds::check; left out: it takes no time
  std::optional<SourcedNumber> cores;  ///< for all ranks; left out: checksums take none from others

  // "disk": may be left out where nothing rests on nvme
  std::optional<SourcedNumber> disk_count;    ///< in a node; left out: 1
  std::optional<SourcedNumber> disk_read;     ///< bytes/s of one
  std::optional<SourcedNumber> disk_write;    ///< bytes/s of one
  std::optional<SourcedNumber> disk_overlap;  ///< see RankSpeeds::disk_overlap; left out: 0
  /// See RankSpeeds::disk_beside_compute; without an accelerator only; left out: 1.
  std::optional<SourcedNumber> disk_beside_compute;
  std::optional<SourcedNumber> disk_bytes;      ///< of one
  std::optional<SourcedNumber> disk_endurance;  ///< bytes that may be written to one in its life

  // "network": for several nodes
  std::optional<SourcedNumber> network;  ///< "receive": bytes/s of a node

  /// Throws ConfigError that names file, line and key and says what is allowed: for text that is no
  /// JSON, an unknown or missing key, a number out of range, a source that says nothing ("measured"
  /// without by what is one), and what contradicts itself; IoError when it cannot be read.
  [[nodiscard]] static Machine from_file(const std::filesystem::path& path);
  [[nodiscard]] static Machine from_text(std::string_view text, std::string name);

  /// The text of a machine file that `from_text` reads back to the same numbers.
  [[nodiscard]] std::string to_text() const;

  [[nodiscard]] bool has_accelerator() const { return device_memory.has_value(); }
  [[nodiscard]] int devices() const;  ///< ranks of a node
  [[nodiscard]] int disks() const;    ///< of a node; 0: none is described
  bool operator==(const Machine&) const = default;
};

/// The speeds of a rank, one for each device, when `nodes` of the machine work together: disks,
/// cores and network of a node are shared by its ranks evenly. A collective is taken to bring each
/// byte into a node once. Throws ConfigError where several ranks or nodes lack the speed of what
/// joins them.
[[nodiscard]] RankSpeeds rank_speeds(const Machine& machine, int nodes);

/// The bytes that each rank has of the tiers. Without an accelerator device and host are one memory
/// and each gets all of it here: whoever plans sees to it that both fit. Disks whose bytes are not
/// named are unlimited.
[[nodiscard]] TierBytes rank_bytes(const Machine& machine);

}  // namespace strata::zero3
