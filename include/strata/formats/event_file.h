#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>

namespace strata::formats {

/// One number for TensorBoard: a tag such as "train/loss", and its value, which is shown in fp32.
struct EventScalar {
  std::string_view tag;
  double value = 0;
};

/// A file that TensorBoard reads: records of TensorFlow's format (length, data and their checksums,
/// `record_writer.cc`), each of them an `Event` (`event.proto`) in protobuf's encoding. Every event
/// is handed to the operating system whole, at once, so TensorBoard shows a run while it goes on.
/// Thread: one at a time.
class EventFile {
 public:
  /// Makes `directory`, where it is not there, and a file of a new name in it. What older files in
  /// the directory say of steps behind the first `steps_before` is shown no more: they are of a run
  /// that went on from there, or, with 0, of another one. Throws IoError.
  EventFile(const std::filesystem::path& directory, double now, std::int64_t steps_before);

  /// Writes what was seen at a step. `now`: seconds since 1970. Throws IoError, and the file is of
  /// no use from there on; TensorBoard reads it up to there.
  void write(std::int64_t step, double now, std::span<const EventScalar> scalars);

 private:
  void write_record(const std::string& event);

  std::filesystem::path path_;
  std::ofstream out_;
};

}  // namespace strata::formats
