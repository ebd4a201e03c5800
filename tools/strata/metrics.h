#pragma once

#include <filesystem>
#include <fstream>

#include "step_record.h"

namespace strata::tool {

/// metrics.jsonl: a JSON object per line for every step and every evaluation, under the names that
/// Hugging Face's Trainer gives them where it has one:
///
///     {"step":1,"epoch":0.01,"loss":5.54,"grad_norm":3.1,"learning_rate":0.0,"step_seconds":2.1,
///      "tokens_per_second":970.2,"device_bytes":...,"host_bytes":...,"nvme_bytes":...,
///      "host_bytes_peak":...,"read_bytes":...,"written_bytes":...,"wait_share":0.12}
///     {"step":1,"epoch":0.01,"eval_loss":5.51,"eval_runtime":1.2}
///
/// A number that is not finite is null. Every line is handed to the operating system whole, at
/// once: the file is valid at any moment, also after a kill.
class MetricsFile {
 public:
  /// Makes the file. Throws IoError, as the others do when a line cannot be written.
  explicit MetricsFile(const std::filesystem::path& path);

  void write(const StepRecord& record);
  void write(const EvaluationRecord& record);

 private:
  void write_line(const std::string& line);

  std::filesystem::path path_;
  std::ofstream out_;
};

}  // namespace strata::tool
