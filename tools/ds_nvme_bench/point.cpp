#include "point.h"

#include <array>
#include <optional>
#include <string>
#include <utility>

#include "strata/base/error.h"

namespace strata::nvme_bench {
namespace {

constexpr std::array kWorkloadNames{
    std::pair{Workload::kRead, "read"},           std::pair{Workload::kWrite, "write"},
    std::pair{Workload::kReadWrite, "readwrite"}, std::pair{Workload::kRandRead, "randread"},
    std::pair{Workload::kRandWrite, "randwrite"}, std::pair{Workload::kRandRw, "randrw"},
    std::pair{Workload::kTrainStep, "trainstep"}};

[[noreturn]] void refuse(std::string_view text, const std::string& what, const std::string& names) {
  throw ConfigError("\"" + std::string(text) + "\" is not " + what + "; use one of " + names);
}

std::string with(const std::string& names, std::string_view name) {
  return names + (names.empty() ? "" : ", ") + std::string(name);
}

void require(bool valid, const std::string& rule) {
  if (!valid) throw ConfigError(rule);
}

// A training step of the smallest model: a block for each byte of a parameter at rest.
constexpr std::uint64_t kBlocksOfTrainStep = kTrainBytesAtRest;

constexpr std::uint32_t kThreadsMax = 256;
constexpr std::uint32_t kDepthMax = 4096;

}  // namespace

void check(const Point& point) {
  require(point.depth >= 1 && point.depth <= kDepthMax,
          "an --iodepth of " + std::to_string(point.depth) + " is not possible; use 1 to " +
              std::to_string(kDepthMax));
  require(point.threads >= 1 && point.threads <= kThreadsMax,
          std::to_string(point.threads) + " --threads are not possible; use 1 to " +
              std::to_string(kThreadsMax));
  require(point.block_bytes >= 512 && point.block_bytes <= 1_GiB && point.block_bytes % 512 == 0,
          "a block (--bs) of " + std::to_string(point.block_bytes) +
              " bytes is not possible; use a multiple of 512 up to 1 GiB");
}

void check_fits(const Point& point, std::uint64_t file_bytes, std::size_t files) {
  const std::uint64_t part = file_bytes / point.threads;
  const std::uint64_t least =
      point.workload == Workload::kTrainStep ? ceil_div(kBlocksOfTrainStep, files) : 1;
  require(part / point.block_bytes >= least,
          "a thread's part of each file is " + format_bytes(part) + ", and " +
              std::string(name_of(point.workload)) + " in blocks of " +
              format_bytes(point.block_bytes) + " needs " +
              format_bytes(least * point.block_bytes) +
              "; use a smaller --bs, fewer --threads or a larger --size");
}

std::string_view name_of(Workload workload) {
  for (const auto& [entry, name] : kWorkloadNames) {
    if (entry == workload) return name;
  }
  return "";
}

Workload parse_workload(std::string_view text) {
  if (text == "rw") return Workload::kReadWrite;  // fio takes both
  std::string names;
  for (const auto& [workload, name] : kWorkloadNames) {
    if (text == name) return workload;
    names = with(names, name);
  }
  refuse(text, "a workload", names);
}

IoBackend parse_engine(std::string_view text) {
  if (const std::optional<IoBackend> engine = io_backend_named(text)) return *engine;
  std::string names;
  for (const std::string_view name : kIoBackendNames) names = with(names, name);
  refuse(text, "an I/O engine", names);
}

}  // namespace strata::nvme_bench
