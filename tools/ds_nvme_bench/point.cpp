#include "point.h"

#include <array>
#include <span>
#include <string>
#include <utility>

#include "strata/base/error.h"

namespace strata::nvme_bench {
namespace {

constexpr std::array kWorkloads{
    std::pair{Workload::kRead, "read"},           std::pair{Workload::kWrite, "write"},
    std::pair{Workload::kReadWrite, "readwrite"}, std::pair{Workload::kRandRead, "randread"},
    std::pair{Workload::kRandWrite, "randwrite"}, std::pair{Workload::kRandRw, "randrw"},
    std::pair{Workload::kTrainStep, "trainstep"}};

constexpr std::array kEngines{
    std::pair{IoEngine::kAuto, "auto"}, std::pair{IoEngine::kIoUring, "io_uring"},
    std::pair{IoEngine::kLibaio, "libaio"}, std::pair{IoEngine::kThreads, "threads"},
    std::pair{IoEngine::kNull, "null"}};

template <class Value, std::size_t kCount>
std::string_view name_in(const std::array<std::pair<Value, const char*>, kCount>& table,
                         Value value) {
  for (const auto& [entry, name] : table) {
    if (entry == value) return name;
  }
  return "";
}

template <class Value, std::size_t kCount>
Value parse_in(const std::array<std::pair<Value, const char*>, kCount>& table,
               std::string_view text, const std::string& what) {
  std::string names;
  for (const auto& [value, name] : table) {
    if (text == name) return value;
    names += (names.empty() ? "" : ", ") + std::string(name);
  }
  throw ConfigError("\"" + std::string(text) + "\" is not " + what + "; use one of " + names);
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

std::string_view name_of(Workload workload) { return name_in(kWorkloads, workload); }
std::string_view name_of(IoEngine engine) { return name_in(kEngines, engine); }

Workload parse_workload(std::string_view text) {
  if (text == "rw") return Workload::kReadWrite;  // fio takes both
  return parse_in(kWorkloads, text, "a workload");
}

IoEngine parse_engine(std::string_view text) { return parse_in(kEngines, text, "an I/O engine"); }

}  // namespace strata::nvme_bench
