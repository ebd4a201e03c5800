#include "disk_peers.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <regex>

#include "strata/base/error.h"

namespace strata::bench {
namespace {

/// The standard output of a command line. Throws IoError when it fails.
std::string output_of(const std::string& command) {
  std::FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) throw system_error("cannot start", command, errno);
  std::string text;
  std::array<char, 4096> piece{};
  while (const std::size_t count = std::fread(piece.data(), 1, piece.size(), pipe)) {
    text.append(piece.data(), count);
  }
  if (const int status = ::pclose(pipe); status != 0) {
    throw IoError("failed with status " + std::to_string(status) + ": " + command + "\n" + text, 0);
  }
  return text;
}

std::string milliseconds(std::chrono::nanoseconds time) {
  using std::chrono::milliseconds;
  return std::to_string(std::chrono::duration_cast<milliseconds>(time).count()) + "ms";
}

std::string fio_engine(IoBackend engine) {
  switch (engine) {
    case IoBackend::kLibaio: return "--ioengine=libaio";
    case IoBackend::kThreads: return "--ioengine=psync";
    default: return "--ioengine=io_uring --fixedbufs --registerfiles";
  }
}

}  // namespace

Fio::Fio(std::string program) : program_(std::move(program)) {
  version_ = output_of(program_ + " --version");
  version_.erase(version_.find_last_not_of('\n') + 1);
}

std::string Fio::command(const Point& point, const Limits& limits, const aio::IoFile& file) const {
  const std::uint64_t part = file.size() / point.threads / point.block_bytes * point.block_bytes;
  return program_ + " --name=peer --filename=/proc/" + std::to_string(::getpid()) + "/fd/" +
         std::to_string(file.fd()) + " --rw=" + std::string(name_of(point.workload)) +
         " --bs=" + std::to_string(point.block_bytes) +
         " --iodepth=" + std::to_string(point.depth) +
         " --numjobs=" + std::to_string(point.threads) + " " + fio_engine(point.engine) +
         " --size=" + std::to_string(part) + " --offset_increment=" + std::to_string(part) +
         " --direct=1 --iomem=mmaphuge --thread --group_reporting" +
         " --lat_percentiles=1 --norandommap --allow_file_create=0 --time_based --runtime=" +
         milliseconds(limits.runtime) + " --ramp_time=" + milliseconds(limits.ramp) +
         " --output-format=json";
}

DiskFigure Fio::run(const Point& point, const Limits& limits, const aio::IoFile& file) const {
  const std::string text = output_of(command(point, limits, file));
  const auto json = nlohmann::json::parse(text.substr(std::min(text.find('{'), text.size())),
                                          nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) throw DataError(program_ + " wrote no JSON:\n" + text);
  const auto& job = json.at("jobs").at(0);
  const bool reads = point.workload == Workload::kRead || point.workload == Workload::kRandRead;
  const auto& direction = job.at(reads ? "read" : "write");
  // With group_reporting the shares of several threads are averaged over their common run time.
  const double cpu_share =
      (job.at("usr_cpu").get<double>() + job.at("sys_cpu").get<double>()) / 100;
  const double seconds = job.at("job_runtime").get<double>() / 1000;
  const double gigabytes = direction.at("io_bytes").get<double>() / 1e9;
  const auto& latency = direction.at("lat_ns");
  return {.gigabytes_per_second = direction.at("bw_bytes").get<double>() / 1e9,
          .cpu_seconds_per_gigabyte = cpu_share * seconds / gigabytes,
          .latency_mean_us = latency.at("mean").get<double>() / 1e3,
          .latency_p50_us = latency.at("percentile").at("50.000000").get<double>() / 1e3,
          .latency_p99_us = latency.at("percentile").at("99.000000").get<double>() / 1e3};
}

std::string DsIo::command(const Point& point, std::uint64_t bytes, int loops) const {
  return program_ + " --folder '" + directory_.string() + "' --io_size " + std::to_string(bytes) +
         " --block_size " + std::to_string(point.block_bytes) + " --queue_depth " +
         std::to_string(point.depth) + " --io_parallel " + std::to_string(point.threads) +
         " --loops " + std::to_string(loops) +
         (point.workload == Workload::kRead ? " --read" : "") + " 2>/dev/null";
}

DiskFigure DsIo::run(const Point& point, std::uint64_t bytes, int loops) const {
  const std::string text = output_of(command(point, bytes, loops));
  std::smatch found;
  // Its "GB" are GiB.
  if (!std::regex_search(text, found, std::regex("Task \\w+ Speed = ([0-9.]+) GB/sec"))) {
    throw DataError(program_ + " stated no speed:\n" + text);
  }
  return {.gigabytes_per_second = std::stod(found[1]) * 1.073741824};
}

}  // namespace strata::bench
