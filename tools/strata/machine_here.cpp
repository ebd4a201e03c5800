#include "machine_here.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "hop7_states.h"
#include "median.h"
#include "plural.h"
#include "run_config.h"
#include "strata/aio/disk.h"
#include "strata/aio/io_queue.h"
#include "strata/base/clock.h"
#include "strata/base/error.h"
#include "strata/base/machine_memory.h"
#include "strata/optim_cpu/compute_threads.h"
#include "strata/optim_cpu/convert.h"
#include "strata/tiering/checksum.h"
#include "strata/zero3/queue_options.h"

namespace strata::tool {
namespace {

using zero3::SourcedNumber;

constexpr std::size_t kRoundsMin = 3;
constexpr std::uint64_t kChunk = 1_MiB;
// A window's weights, or a staging slot. Much larger blocks may be copied at another speed: 12 GB/s
// in place of 7 on the development machine.
constexpr std::uint64_t kCopyBytes = 4_MiB;
// A part of what is available may be taken to measure with.
constexpr std::uint64_t kMemoryPart = 2;

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  std::array<char, 16> text{};
  (void)std::strftime(text.data(), text.size(), "%Y-%m-%d", &local);
  return text.data();
}

SourcedNumber measured(double value, const std::string& how) {
  return {value, "measured here, " + today() + ": " + how};
}

/// The median seconds of `work`, done again and again for `time` and at least a few times.
template <class Work>
double seconds_of(std::chrono::milliseconds time, const Check& check, Work work) {
  std::vector<double> seconds;
  const Time begin = kSystemClock.now();
  while (seconds.size() < kRoundsMin || kSystemClock.now() < begin + time) {
    check();
    const Time start = kSystemClock.now();
    work();
    seconds.push_back(seconds_since(start));
  }
  return median(std::move(seconds));
}

// ---- the disks ---------------------------------------------------------------------------------

std::string names_of(const std::vector<std::filesystem::path>& directories,
                     const std::vector<aio::DiskDescription>& disks) {
  std::string names;
  for (std::size_t i = 0; i < directories.size(); ++i) {
    names += (i == 0 ? "" : ", ") + directories[i].string() + " (" + disks[i].file_system;
    names += (disks[i].device.empty() ? "" : " on " + disks[i].device) + ")";
  }
  return names;
}

/// How many disks there are: directories on one of them are counted once.
double count_of(const std::vector<aio::DiskDescription>& disks) {
  double count = 0;
  for (const std::size_t neighbours : aio::paths_on_the_disk_of(disks)) {
    count += 1.0 / static_cast<double>(neighbours);
  }
  return std::max(1.0, std::round(count));
}

double free_bytes_of(const std::vector<aio::DiskDescription>& disks) {
  std::set<std::uint64_t> seen;
  double bytes = 0;
  for (const aio::DiskDescription& disk : disks) {
    if (seen.insert(disk.file_system_number).second) bytes += static_cast<double>(disk.free_bytes);
  }
  return bytes;
}

void measure_disks(const formats::DsConfig& config, const aio::PathLoad& load, const Check& check,
                   Logger& log, zero3::Machine& machine) {
  const std::vector<std::string> names = config.nvme_directories();
  const std::vector<std::filesystem::path> directories(names.begin(), names.end());
  std::vector<aio::DiskDescription> disks;
  disks.reserve(directories.size());
  for (const auto& directory : directories) disks.push_back(aio::describe_disk(directory));
  aio::IoQueueOptions options = zero3::queue_options(config);
  options.numa_node = aio::numa_node_of(disks);
  aio::IoQueue queue(options, directories.front(), log);
  aio::PathLoad beside = load;
  beside.computing_threads = optim_cpu::ComputeThreads().threads();
  const aio::PathSpeeds speeds = aio::measure_paths(queue, directories, beside, check);

  const double count = count_of(disks);
  const std::string how = std::to_string(load.operations) + " at once of " +
                          format_bytes(load.operation_bytes) + " by " + queue.description() +
                          " in a file of " + format_bytes(load.file_bytes) + " in " +
                          names_of(directories, disks);
  machine.disk_count = measured(count, "disks under " + names_of(directories, disks));
  machine.disk_read = measured(speeds.read / count, "reads, " + how);
  machine.disk_write = measured(speeds.write / count, "writes, " + how);
  const std::string in_turns = "reads and writes in turns of " + format_bytes(load.turn_bytes);
  machine.disk_overlap = measured(speeds.overlap, in_turns + ", " + how);
  machine.disk_beside_compute = measured(
      speeds.beside_compute, in_turns + " with " + counted(beside.computing_threads, "thread") +
                                 " computing, against none, " + how);
  machine.disk_bytes = measured(std::max(1.0, free_bytes_of(disks) / count),
                                "free in " + names_of(directories, disks));
}

// ---- memory and cores --------------------------------------------------------------------------

/// The config's rule; its numbers cost the same whatever they are.
optim_cpu::OptimizerOptions rule_of(const formats::OptimizerConfig& optimizer) {
  switch (optimizer.type) {
    case formats::OptimizerType::kSgd: return optim_cpu::SgdOptions{.momentum = optimizer.momentum};
    case formats::OptimizerType::kAdagrad: return optim_cpu::AdagradOptions{};
    case formats::OptimizerType::kLion: return optim_cpu::LionOptions{};
    case formats::OptimizerType::kAdam:
    case formats::OptimizerType::kAdamW: break;
  }
  return optim_cpu::AdamOptions{.weight_decay = optimizer.weight_decay,
                                .decoupled_weight_decay = optimizer.decoupled_weight_decay()};
}

SourcedNumber update_speed(const formats::DsConfig& config, std::uint64_t bytes,
                           std::chrono::milliseconds time, const Check& check) {
  const StateFormat format = config.state_format();
  const Precision gradient =
      config.gradient_accumulation_steps > 1 ? Precision::kFp32 : format.precision;
  std::uint64_t element_bytes = weight_bytes(gradient);
  for (const StateKind kind :
       {StateKind::kWeight, StateKind::kMaster, StateKind::kM, StateKind::kV}) {
    element_bytes += state_bytes(format, kind);
  }
  optim_cpu::ComputeThreads threads(static_cast<int>(config.strata.threads));
  Hop7States states(format, gradient, bytes / element_bytes);
  const optim_cpu::OptimizerOptions options = rule_of(config.optimizer);
  std::int64_t step = 0;
  const auto update = [&] { states.update(options, ++step, threads); };
  update();
  const double seconds = seconds_of(time, check, update);
  return measured(static_cast<double>(states.bytes_moved()) / seconds,
                  "update of " + format_bytes(bytes) + " of " +
                      std::string(name_of(format.precision)) + " states with " +
                      std::string(name_of(format.moments)) + " moments, " +
                      counted(threads.threads(), "thread"));
}

/// As a step adds gradients to where they rest, straight from where they were made.
SourcedNumber add_speed(const formats::DsConfig& config, std::uint64_t bytes,
                        std::chrono::milliseconds time, const Check& check) {
  const bool sums = config.gradient_accumulation_steps > 1;
  const Precision precision = sums ? Precision::kFp32 : config.precision();
  const std::size_t count = bytes / weight_bytes(precision);
  const HugePages gradient(bytes);
  const HugePages home(bytes);
  std::memset(gradient.data(), 0, bytes);
  std::memset(home.data(), 0, bytes);
  optim_cpu::ComputeThreads threads(static_cast<int>(config.strata.threads));
  const auto add_all = [&] {
    (void)optim_cpu::accumulate_gradient(threads, precision, sums, /*first=*/true, count,
                                         gradient.data(), home.data());
  };
  add_all();
  const auto moved = static_cast<double>(2 * count * weight_bytes(precision));
  return measured(moved / seconds_of(time, check, add_all),
                  "gradients brought home, " + format_bytes(bytes) +
                      ", with the sums of their squares, " + counted(threads.threads(), "thread"));
}

SourcedNumber copy_speed(std::uint64_t bytes, std::chrono::milliseconds time, const Check& check) {
  const HugePages source(bytes);
  const HugePages target(bytes);
  std::memset(source.data(), 1, bytes);
  const std::uint64_t piece = std::min(kCopyBytes, bytes);
  const auto copy = [&] {
    for (std::uint64_t begin = 0; begin + piece <= bytes; begin += piece) {
      std::memcpy(target.data() + begin, source.data() + begin, piece);
    }
  };
  copy();
  const auto moved = static_cast<double>(bytes - bytes % piece);
  return measured(moved / seconds_of(time, check, copy),
                  "copies of " + format_bytes(piece) + " in " + format_bytes(bytes) +
                      " by one thread, as transfers to and from a device of host memory are");
}

SourcedNumber check_speed(std::uint64_t bytes, std::chrono::milliseconds time, const Check& check) {
  const HugePages memory(bytes);
  std::memset(memory.data(), 1, bytes);
  std::uint64_t sum = 0;
  const auto check_all = [&] {
    for (std::uint64_t chunk = 0; chunk < bytes / kChunk; ++chunk) {
      sum += tiering::chunk_checksum(0, chunk, {memory.data() + chunk * kChunk, kChunk});
    }
  };
  check_all();
  const double speed = static_cast<double>(bytes) / seconds_of(time, check, check_all);
  STRATA_CHECK(sum != 0, "the checksums were not made");
  return measured(speed,
                  "checksums of chunks of 1 MiB in " + format_bytes(bytes) + " by one thread");
}

}  // namespace

zero3::Machine machine_here(const MeasuredRun& run, const MeasureArithmetic& arithmetic,
                            const Check& check, Logger& log, const MeasuringEffort& effort) {
  const formats::DsConfig& config = run.config;
  check_nvme_directories(config);
  const MachineMemory memory = available_memory();
  const std::uint64_t usable = memory.bytes / kMemoryPart;

  zero3::Machine machine;
  machine.name = "this machine";
  machine.host_memory = measured(static_cast<double>(memory.bytes), "available of " + memory.bound);
  if (!config.nvme_directories().empty()) measure_disks(config, effort.disk, check, log, machine);
  machine.update = update_speed(config, std::min(effort.update_bytes, usable), effort.time, check);
  machine.add = add_speed(config, std::min(effort.copy_bytes, usable / 2), effort.time, check);
  machine.copy = copy_speed(std::min(effort.copy_bytes, usable / 2), effort.time, check);
  machine.check = check_speed(std::min(effort.copy_bytes, usable), effort.time, check);
  machine.cores =
      measured(optim_cpu::ComputeThreads().threads(), "those that this process may use");
  const SourcedNumber compute =
      arithmetic({.model = run.model,
                  .micro_batch = run.micro_batch,
                  .precision = config.precision(),
                  .recompute = config.strata.recompute.value_or(true),
                  .sums_gradients = config.gradient_accumulation_steps > 1,
                  .memory_bytes = usable},
                 check);
  machine.compute = measured(compute.value, compute.source);
  return machine;
}

}  // namespace strata::tool
