#include "metrics.h"

#include <cerrno>
#include <nlohmann/json.hpp>

#include "strata/base/error.h"

namespace strata::tool {
namespace {

void add_memory(nlohmann::ordered_json& line, const MemoryReading& memory) {
  for (const tiering::Tier tier :
       {tiering::Tier::kDevice, tiering::Tier::kHost, tiering::Tier::kNvme}) {
    const std::string name = std::string(name_of(tier)) + "_bytes";
    line[name] = memory.used.of(tier);
    line[name + "_peak"] = memory.peak.of(tier);
  }
}

}  // namespace

MetricsFile::MetricsFile(const std::filesystem::path& path) : path_(path) {
  errno = 0;
  out_.open(path, std::ios::binary);
  if (!out_) throw system_error("cannot create", path.string(), errno);
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
  line["wait_share"] = record.interval.disk_wait_share();
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

void MetricsFile::write_line(const std::string& line) {
  errno = 0;
  const std::string whole = line + '\n';
  out_.write(whole.data(), static_cast<std::streamsize>(whole.size())).flush();
  if (!out_) throw system_error("cannot write", path_.string(), errno);
}

}  // namespace strata::tool
