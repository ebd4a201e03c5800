#include "point.h"

#include <array>
#include <span>
#include <string>
#include <utility>

#include "strata/base/error.h"

namespace strata::bench {
namespace {

constexpr std::array kWorkloads{
    std::pair{Workload::kRead, "read"},           std::pair{Workload::kWrite, "write"},
    std::pair{Workload::kReadWrite, "readwrite"}, std::pair{Workload::kRandRead, "randread"},
    std::pair{Workload::kRandWrite, "randwrite"}, std::pair{Workload::kRandRw, "randrw"},
    std::pair{Workload::kTrainStep, "trainstep"}};

constexpr std::array kEngines{
    std::pair{Engine::kAuto, "auto"}, std::pair{Engine::kIoUring, "io_uring"},
    std::pair{Engine::kLibaio, "libaio"}, std::pair{Engine::kThreads, "threads"},
    std::pair{Engine::kNull, "null"}};

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

}  // namespace

std::string_view name_of(Workload workload) { return name_in(kWorkloads, workload); }
std::string_view name_of(Engine engine) { return name_in(kEngines, engine); }

Workload parse_workload(std::string_view text) {
  if (text == "rw") return Workload::kReadWrite;  // fio takes both
  return parse_in(kWorkloads, text, "a workload");
}

Engine parse_engine(std::string_view text) { return parse_in(kEngines, text, "an I/O engine"); }

}  // namespace strata::bench
