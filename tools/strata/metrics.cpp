#include "metrics.h"

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <system_error>

#include "strata/base/error.h"
#include "strata/formats/writable_file.h"

namespace strata::tool {
namespace {

void add_memory(nlohmann::ordered_json& line, const MemoryReading& memory) {
  for (const tiering::Tier tier : tiering::kTiers) {
    const std::string name = std::string(name_of(tier)) + "_bytes";
    line[name] = memory.used.of(tier);
    line[name + "_peak"] = memory.peak.of(tier);
  }
}

void add_hops(nlohmann::ordered_json& line, const Interval& interval) {
  for (std::size_t hop = 0; hop < kHopCount; ++hop) {
    nlohmann::ordered_json& reading = line["hops"][std::string(kHopNames[hop])];
    reading["busy_seconds"] = interval.busy_seconds[hop];
    reading["wait_seconds"] = interval.wait_seconds[hop];
    reading["bytes"] = interval.hop_bytes[hop];
  }
}

}  // namespace

MetricsFile::MetricsFile(const std::filesystem::path& path, Logger& log, std::uint64_t bytes)
    : path_(path), log_(log) {
  std::error_code code;
  const std::uint64_t there = bytes > 0 ? std::filesystem::file_size(path, code) : 0;
  whole_bytes_ = code ? 0 : std::min(bytes, there);
  if (whole_bytes_ < bytes) {
    log.warning(path.string() + ": of the " + std::to_string(bytes) +
                " bytes of the steps before, " + std::to_string(whole_bytes_) +
                " are there; the metrics lack the rest");
  }
  errno = 0;
  out_.open(path, std::ios::binary | (whole_bytes_ > 0 ? std::ios::app : std::ios::trunc));
  if (!out_) throw system_error("cannot create", path.string(), errno);
  if (whole_bytes_ == 0) return;
  std::filesystem::resize_file(path, whole_bytes_, code);
  if (code) throw system_error("cut", path.string(), code.value());
}

void MetricsFile::write(const StepRecord& record) {
  nlohmann::ordered_json line;
  line["step"] = record.step;
  line["epoch"] = record.epoch;
  line["loss"] = record.loss;
  line["grad_norm"] = record.grad_norm;
  line["learning_rate"] = record.lr;
  line["loss_scale"] = record.loss_scale;
  line["overflow"] = record.overflow;
  line["step_seconds"] = record.interval.seconds;
  line["tokens_per_second"] = record.interval.tokens_per_second();
  add_memory(line, record.memory);
  line["read_bytes"] = record.interval.read_bytes;
  line["written_bytes"] = record.interval.written_bytes;
  line["gathered_bytes"] = record.interval.gathered_bytes;
  line["reduced_bytes"] = record.interval.reduced_bytes;
  line["wait_share"] = record.interval.disk_wait_share();
  line["bound_share"] = record.interval.bound_share();
  line["binds"] = record.interval.binding_resource();
  add_hops(line, record.interval);
  write_line(line.dump());
}

void MetricsFile::write(const EvaluationRecord& record) {
  nlohmann::ordered_json line;
  line["step"] = record.step;
  line["epoch"] = record.epoch;
  line["eval_loss"] = record.loss;
  line["eval_runtime"] = record.seconds;
  write_line(line.dump());
}

std::uint64_t MetricsFile::sync() {
  formats::sync_path(path_);
  return whole_bytes_;
}

void MetricsFile::write_line(const std::string& line) {
  if (!out_.is_open()) return;
  errno = 0;
  const std::string whole = line + '\n';
  out_.write(whole.data(), static_cast<std::streamsize>(whole.size())).flush();
  if (out_) {
    whole_bytes_ += whole.size();
  } else {
    give_up(errno);
  }
}

void MetricsFile::give_up(int code) {
  out_.close();
  std::error_code ignored;  // a piece of a line may stay
  std::filesystem::resize_file(path_, whole_bytes_, ignored);
  log_.warning(std::string(system_error("cannot write", path_.string(), code).what()) +
               "; the run goes on, and its metrics end here");
}

}  // namespace strata::tool
