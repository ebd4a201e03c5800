#include <algorithm>

#include "measuring_thread.h"
#include "number_text.h"
#include "point.h"
#include "report.h"

namespace strata::nvme_bench {
namespace {

std::string workload_options(Workload workload) {
  switch (workload) {
    case Workload::kReadWrite: return "--rw=rw";
    case Workload::kTrainStep:
      return "--rw=rw --rwmixread=" +
             std::to_string((100 * kTrainBytesRead + kTrainBytesMoved / 2) / kTrainBytesMoved);
    case Workload::kRandRead:
    case Workload::kRandWrite:
    case Workload::kRandRw: return "--rw=" + std::string(name_of(workload)) + " --norandommap";
    default: return "--rw=" + std::string(name_of(workload));
  }
}

/// A word of a shell's command line; fio takes ':' apart.
std::string quoted(const std::string& text) {
  std::string word = "'";
  for (const char c : text) {
    if (c == '\'') {
      word += "'\\''";
    } else {
      word += c;
    }
  }
  return word + "'";
}

std::string file_names(const std::vector<std::filesystem::path>& directories) {
  std::string names;
  for (const auto& directory : directories) {
    if (!names.empty()) names += ':';
    for (const char c : (directory / "ds_nvme_bench.fio").string()) {
      if (c == ':') names += '\\';
      names += c;
    }
  }
  return names;
}

std::string engine_options(const Point& point, const std::string& engine) {
  const auto is = [&](const char* name) { return engine.rfind(name, 0) == 0; };
  const auto queue = [&](const std::string& name) {
    return "--ioengine=" + name + " --iodepth=" + std::to_string(point.depth) +
           " --numjobs=" + std::to_string(point.threads);
  };
  if (is("threads")) {
    const std::uint32_t jobs = point.threads * std::min(point.depth, kEngineThreadsMax);
    return "--ioengine=psync --numjobs=" + std::to_string(jobs);
  }
  if (is("libaio")) return queue("libaio");
  if (is("null")) return queue("null");
  const bool registered = point.prepare && engine.find("not registered") == std::string::npos;
  return queue("io_uring") + (registered ? " --fixedbufs --registerfiles" : "");
}

}  // namespace

std::string fio_command(const Report& report) {
  const Point& point = report.result.point;
  const std::uint64_t file = report.bytes / std::max<std::size_t>(1, report.directories.size());
  const std::uint64_t part = file / point.threads / point.block_bytes * point.block_bytes;
  const std::string engine = engine_options(point, report.result.engine);
  std::string command = "fio --name=" + std::string(name_of(point.workload)) +
                        " --filename=" + quoted(file_names(report.directories)) + " --unlink=1 " +
                        workload_options(point.workload) + " --bs=" + fio_bytes(point.block_bytes) +
                        ' ' + engine +
                        " --thread --group_reporting --direct=" + (point.direct ? "1" : "0");
  const bool jobs_share = engine.find("psync") != std::string::npos;
  command += " --filesize=" + fio_bytes(file);
  if (point.threads > 1 && !jobs_share) {
    command += " --size=" + fio_bytes(part * report.directories.size()) +
               " --offset_increment=" + fio_bytes(part);
  }
  const auto seconds = std::chrono::duration<double>(report.limits.runtime).count();
  const auto ramp = std::chrono::duration_cast<std::chrono::milliseconds>(report.limits.ramp);
  command +=
      " --time_based --runtime=" + std::to_string(static_cast<std::uint64_t>(seconds * 1000)) +
      "ms";
  if (ramp.count() > 0) command += " --ramp_time=" + std::to_string(ramp.count()) + "ms";
  // Reading, fio would look for checksums that it has written itself.
  if (point.verify && !has_reads(point.workload)) command += " --verify=xxhash";
  return command;
}

}  // namespace strata::nvme_bench
