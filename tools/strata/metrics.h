#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include "step_record.h"
#include "strata/base/log.h"

namespace strata::tool {

/// metrics.jsonl: a JSON object per line for every step and every evaluation, under the names that
/// Hugging Face's Trainer gives them where it has one:
///
///     {"step":1,"epoch":0.01,"loss":5.54,"grad_norm":3.1,"learning_rate":0.0,"step_seconds":2.1,
///      "tokens_per_second":970.2,"device_bytes":...,"host_bytes":...,"nvme_bytes":...,
///      "host_bytes_peak":...,"read_bytes":...,"written_bytes":...,"wait_share":0.12,
///      "bound_share":0.71,"binds":"disk",
///      "hops":{"fetch":{"busy_seconds":0.1,"wait_seconds":0.25,"bytes":...},...,"flush":{...}}}
///     {"step":1,"epoch":0.01,"eval_loss":5.51,"eval_runtime":1.2}
///
/// A number that is not finite is null. Every line is handed to the operating system whole, at
/// once: the file is valid at any moment, also after a kill. A line that cannot be written costs a
/// warning and the lines from there on, never the run: the file then ends with the last whole line.
class MetricsFile {
 public:
  /// Makes the file, or goes on behind the first `bytes` bytes of one that is there: whole lines of
  /// a run that goes on; what stands behind them comes again. A file that lacks some of them costs
  /// a warning. Throws IoError when that fails. `log` must outlive it.
  MetricsFile(const std::filesystem::path& path, Logger& log, std::uint64_t bytes = 0);

  void write(const StepRecord& record);
  void write(const EvaluationRecord& record);

  /// Makes the lines so far durable and returns their bytes: where a run that goes on from here
  /// goes on. Throws IoError.
  std::uint64_t sync();

 private:
  void write_line(const std::string& line);
  void give_up(int code);

  std::filesystem::path path_;
  Logger& log_;
  std::ofstream out_;
  std::uint64_t whole_bytes_ = 0;  ///< size of all lines written so far
};

}  // namespace strata::tool
