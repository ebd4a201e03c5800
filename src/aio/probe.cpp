#include "aio/probe.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <fstream>

#include "aio/aligned_memory.h"
#include "strata/aio/io_file.h"
#include "strata/base/error.h"

namespace strata::aio {
namespace {

constexpr std::chrono::seconds kPatience{10};
constexpr std::byte kPattern{0xa5};
constexpr const char* kDisabledSwitch = "/proc/sys/kernel/io_uring_disabled";

/// One request through `backend`, in full. Throws IoError when it does not come back whole.
void move_whole(Backend& backend, const Request& request) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  const std::size_t accepted = backend.enqueue({&request, 1});
  STRATA_CHECK(accepted == 1, "an empty backend refused a request");
  std::array<Completion, 1> completion{};
  while (backend.reap(completion, kPatience) == 0) {
    if (std::chrono::steady_clock::now() < deadline) continue;
    throw IoError("a trial transfer never came back", ETIMEDOUT);
  }
  const std::int64_t result = completion[0].result;
  if (result == request.bytes) return;
  throw IoError("a trial transfer failed", result < 0 ? static_cast<int>(-result) : EIO);
}

/// Writes a block of `file` through `backend` and reads it back.
void try_transfer(Backend& backend, const IoFile& file) {
  const std::uint32_t bytes = std::max(file.alignment(), 4096u);
  const AlignedMemory memory = make_zeroed_memory(bytes, bytes);
  Request request{.kind = OpKind::kWrite,
                  .fd = file.fd(),
                  .offset = 0,
                  .data = memory.get(),
                  .bytes = bytes,
                  .tag = 0};
  std::fill_n(memory.get(), bytes, kPattern);
  move_whole(backend, request);
  std::fill_n(memory.get(), bytes, std::byte{0});
  request.kind = OpKind::kRead;
  move_whole(backend, request);
  if (std::count(memory.get(), memory.get() + bytes, kPattern) != std::ptrdiff_t{bytes}) {
    throw IoError("a trial transfer brought back other bytes", EIO);
  }
}

/// Why io_uring is not there, and what would change that.
std::string explain(int code) {
  switch (code) {
    case EPERM: {
      int disabled = 0;
      std::ifstream(kDisabledSwitch) >> disabled;
      if (disabled == 0) return "blocked by a sandbox; allow io_uring_setup to use it";
      return "kernel.io_uring_disabled is " + std::to_string(disabled) + "; set it to 0 to use it";
    }
    case ENOSYS: return "not in this kernel (5.11 or later has it), or blocked by a sandbox";
    case ENOMEM: return "too little lockable memory; raise ulimit -l to use it";
    default: return "the trial transfer failed";
  }
}

std::unique_ptr<Backend> make_tried_io_uring(std::uint32_t depth, const IoFile& file) {
  // A ring belongs to the thread that first drives it: the trial has one of its own.
  try_transfer(*make_io_uring_backend(1), file);
  return make_io_uring_backend(depth);
}

}  // namespace

ChosenBackend choose_backend(const IoQueueOptions& options, const std::filesystem::path& directory,
                             Logger& log) {
  IoFile file = IoFile::create_scratch(directory);
  file.preallocate(std::max(file.alignment(), 4096u));

  std::string reason;
  if (options.backend != BackendKind::kThreads) {
    try {
      ChosenBackend chosen{make_tried_io_uring(options.depth, file), "io_uring"};
      log.info("I/O engine: " + chosen.description);
      return chosen;
    } catch (const IoError& error) {
      reason = "io_uring: " + errno_name(error.code()) + ", " + explain(error.code());
      if (options.backend == BackendKind::kIoUring) throw IoError(reason, error.code());
    }
  }
  ChosenBackend chosen{make_threads_backend(options.depth, options.threads, options.numa_node),
                       "threads"};
  try_transfer(*chosen.backend, file);
  if (!reason.empty()) chosen.description += " (" + reason + ")";
  log.info("I/O engine: " + chosen.description);
  return chosen;
}

}  // namespace strata::aio
