#include "machine.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "named.h"
#include "strata/aio/disk.h"
#include "strata/aio/io_queue.h"
#include "strata/aio/io_uring_support.h"
#include "strata/aio/path_speed.h"
#include "strata/base/error.h"
#include "strata/base/log.h"
#include "strata/base/machine_memory.h"
#include "strata/optim_cpu/compute_threads.h"
#include "strata/optim_cpu/instruction_set.h"

namespace nb = nanobind;
using namespace nb::literals;  // NOLINT(google-build-using-namespace): _a

namespace strata::python {
namespace {

using std::chrono::milliseconds;

/// Lets Ctrl-C end a measurement, which runs without the interpreter's lock.
class SignalCheck {
 public:
  void operator()() {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return;
    next_ = now + milliseconds(50);
    const nb::gil_scoped_acquire lock;
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
  }

 private:
  std::chrono::steady_clock::time_point next_{};
};

/// Bytes read and written a second, their overlap, what is left beside computation, and the engine.
using Speeds = std::tuple<double, double, double, double, std::string>;

Speeds measure_paths(const std::vector<std::string>& names, const std::string& io,
                     std::uint64_t file_bytes, std::uint64_t operation_bytes,
                     std::size_t operations, std::uint64_t turn_bytes, bool beside_compute,
                     std::int64_t part_milliseconds) {
  const std::vector<std::filesystem::path> directories(names.begin(), names.end());
  if (directories.empty()) throw ConfigError("no directory is named; name one for each disk");
  std::vector<aio::DiskDescription> disks;
  disks.reserve(directories.size());
  for (const auto& directory : directories) disks.push_back(aio::describe_disk(directory));
  std::ostringstream unread;
  Logger log(unread);
  aio::IoQueue queue({.backend = io_named(io), .numa_node = aio::numa_node_of(disks)},
                     directories.front(), log);
  const aio::PathLoad load{
      .file_bytes = file_bytes,
      .operation_bytes = operation_bytes,
      .operations = operations,
      .turn_bytes = turn_bytes,
      .computing_threads = beside_compute ? optim_cpu::ComputeThreads().threads() : 0,
      .time = milliseconds(part_milliseconds)};
  const aio::PathSpeeds speeds = aio::measure_paths(queue, directories, load, SignalCheck());
  return {speeds.read, speeds.write, speeds.overlap, speeds.beside_compute, queue.description()};
}

/// Instruction sets, best first, that of the kernels, threads of the optimizer, bytes of memory in
/// all and left with what bounds them, errno of making a ring, and what it lacks.
using Machine = std::tuple<std::vector<std::string>, std::string, int, std::uint64_t, std::uint64_t,
                           std::string, int, std::vector<std::string>>;

Machine machine() {
  const std::vector<std::string_view> names = optim_cpu::InstructionSet::names();
  const MachineMemory left = available_memory();
  const aio::IoUringSupport ring = aio::io_uring_support();
  return {{names.begin(), names.end()},
          std::string(optim_cpu::InstructionSet().name()),
          optim_cpu::ComputeThreads().threads(),
          machine_memory().bytes,
          left.bytes,
          left.bound,
          ring.refusal,
          ring.missing};
}

/// File system, device, model, PCIe address, NUMA node, whether it rotates, bytes in all and free.
using Disk = std::tuple<std::string, std::string, std::string, std::string, std::optional<int>,
                        std::optional<bool>, std::uint64_t, std::uint64_t>;

Disk describe_disk(const std::string& directory) {
  const aio::DiskDescription disk = aio::describe_disk(directory);
  return {disk.file_system, disk.device,     disk.model,       disk.pci_address,
          disk.numa_node,   disk.rotational, disk.total_bytes, disk.free_bytes};
}

}  // namespace

void bind_machine(nb::module_& module) {
  using Released = nb::call_guard<nb::gil_scoped_release>;
  module.def("measure_paths", &measure_paths, nb::kw_only(), "directories"_a, "io"_a,
             "file_bytes"_a, "operation_bytes"_a, "operations"_a, "turn_bytes"_a,
             "beside_compute"_a, "part_milliseconds"_a, Released());
  module.def("machine", &machine, Released());
  module.def("describe_disk", &describe_disk, "directory"_a, Released());
}

}  // namespace strata::python
