#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

/// \file
/// Checkpoints of an engine: Engine::save_checkpoint writes them and Engine::load_checkpoint reads
/// them.
///
/// A directory of checkpoints has one folder for each, by its tag, and a file `latest` with the
/// newest one's tag. A checkpoint is plain safetensors and a JSON manifest:
///
///     step_00000120/
///       manifest.json          sizes and CRC-32 of all files; step, micro-step, rates that were
///                              set, loss scale, every parameter's count of steps; the config; what
///                              the program gave; checksum of its own
///       weight.safetensors     parameters as they rest: BF16, F16 or F32, under their full names
///       master.safetensors     what bf16 weights lack of their fp32 masters (I16, I8), or fp16
///                              weights' masters (F32)
///       m.safetensors          moments as they rest: F32, BF16, or U8 [blocks of 64, 64] with
///       v.safetensors          scales in the codes
///       gradient.safetensors   between the micro-batches of a step: the sums so far
///       rank_00000.safetensors each rank's own: states of random generators, modules' buffers
///
/// The value of a bf16 parameter's fp32 master is bits(master) = (bits(weight) << 16) + master, as
/// signed numbers (I8: + (master << 8)); zlib.crc32 of Python gives the checksums.
///
/// Crash safety. Files are written under a hidden name, made durable, and renamed; then `latest` is
/// replaced by a rename; then older checkpoints are removed. A kill, or a loss of power, at any
/// moment leaves a `latest` that names a complete checkpoint; what it left half-written is removed
/// by the next save. A disk that is full fails that save alone.

namespace strata {

/// How a checkpoint is saved.
struct CheckpointOptions {
  /// As many checkpoints stay in the directory, this one included, those that were written last;
  /// others are removed once this one is complete. 0: all stay.
  std::size_t keep = 0;
  /// What the program wants back: its place in the data, say. UTF-8; the first rank's counts.
  std::map<std::string, std::string> program = {};
  /// Called now and then while states are written; may be empty. What it throws (an interruption,
  /// say) gives the checkpoint up, and nothing is left of it.
  std::function<void()> before_each_piece = {};
};

/// What a checkpoint says of itself.
struct CheckpointInfo {
  std::string tag;
  std::filesystem::path path;    ///< its folder
  std::int64_t step = 0;         ///< optimizer steps taken
  std::int64_t micro_steps = 0;  ///< micro-batches of the step under way
  int world_size = 1;            ///< ranks that wrote it
  std::map<std::string, std::string> program = {};
};

/// The tag of the checkpoint after `step` steps where none is named: "step_00000120".
[[nodiscard]] std::string checkpoint_tag(std::int64_t step);

/// Looks at the checkpoint `tag` of a directory, without a tag at the one that `latest` names, and
/// reads its manifest alone. Without a tag nullopt says that there is none to go on from: no such
/// directory, or none was ever complete. Throws ConfigError for a tag that is none, IoError, and
/// DataError, naming the file, for a manifest or a `latest` that is damaged.
[[nodiscard]] std::optional<CheckpointInfo> find_checkpoint(const std::filesystem::path& directory,
                                                            std::string_view tag = {});

}  // namespace strata
