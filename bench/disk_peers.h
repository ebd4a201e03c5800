#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "point.h"
#include "strata/aio/io_file.h"

/// \file
/// The disk tools of others, run as programs.

namespace strata::bench {

using nvme_bench::Limits;
using nvme_bench::Point;
using nvme_bench::Workload;

/// The result of one run of a contestant.
struct DiskFigure {
  double gigabytes_per_second = 0;
  double cpu_seconds_per_gigabyte = 0;  ///< user and system; 0 where the tool does not tell
  double latency_mean_us = 0;           ///< 0 where the tool does not tell
  double latency_p50_us = 0;
  double latency_p99_us = 0;
};

/// fio: the point on the very file that Strata measures, reached through /proc, with buffers in
/// huge pages, registered buffers and files, and one thread for each of the point's. The huge pages
/// have to be there (sysctl vm.nr_hugepages): fio 3.33 knows no transparent ones.
class Fio {
 public:
  /// `program` is looked up on PATH. Throws IoError when it cannot be run.
  explicit Fio(std::string program);

  [[nodiscard]] const std::string& version() const noexcept { return version_; }
  [[nodiscard]] std::string command(const Point& point, const Limits& limits,
                                    const aio::IoFile& file) const;
  /// Throws IoError when fio fails, DataError when its output cannot be read.
  [[nodiscard]] DiskFigure run(const Point& point, const Limits& limits,
                               const aio::IoFile& file) const;

 private:
  std::string program_;
  std::string version_;
};

/// DeepSpeed's ds_io, on files of its own in `directory`, which it leaves there. It states the mean
/// over its loops, start-up left out.
class DsIo {
 public:
  DsIo(std::string program, std::filesystem::path directory)
      : program_(std::move(program)), directory_(std::move(directory)) {}

  [[nodiscard]] std::string command(const Point& point, std::uint64_t bytes, int loops) const;
  [[nodiscard]] DiskFigure run(const Point& point, std::uint64_t bytes, int loops) const;

 private:
  std::string program_;
  std::filesystem::path directory_;
};

}  // namespace strata::bench
