#include "aio/probe.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <thread>

#include "aio/aligned_memory.h"
#include "strata/aio/io_file.h"
#include "strata/base/error.h"

namespace strata::aio {
namespace {

constexpr std::chrono::seconds kPatience{10};
constexpr std::chrono::milliseconds kRefusedProbePause{10};
constexpr std::byte kPattern{0xa5};
constexpr const char* kIoUringDisabled = "/proc/sys/kernel/io_uring_disabled";
constexpr const char* kAioMax = "/proc/sys/fs/aio-max-nr";
constexpr const char* kAioTaken = "/proc/sys/fs/aio-nr";

constexpr const char* kTrialFailed = "the trial transfer failed";
constexpr const char* kNoOverlap =
    "this file system takes no direct transfers, and buffered ones would be made one by one";

/// One request through `backend`, in full. Throws IoError when it does not come back whole, and
/// DeadlineExceeded when it does not come back: its memory and file are the kernel's then.
void move_whole(Backend& backend, const Request& request, const Clock& clock) {
  const Time deadline = clock.now() + kPatience;
  while (backend.enqueue({&request, 1}) == 0) {
    if (clock.now() > deadline) {
      throw IoError("a trial transfer was not accepted", EAGAIN);
    }
    std::this_thread::sleep_for(kRefusedProbePause);
  }
  std::array<Completion, 1> completion{};
  while (backend.reap(completion, kPatience) == 0) {
    if (clock.now() < deadline) continue;
    backend.drop_unstarted();
    throw DeadlineExceeded("a trial transfer never came back", ETIMEDOUT);
  }
  const std::int64_t result = completion[0].result;
  if (result == request.bytes) return;
  throw IoError("a trial transfer failed", result < 0 ? static_cast<int>(-result) : EIO);
}

/// Writes a block of `file` through `backend` and reads it back, with `memory` for the block.
void try_transfer_with(Backend& backend, const IoFile& file, const AlignedMemory& memory,
                       std::uint32_t bytes, const Clock& clock) {
  Request request{.kind = OpKind::kWrite,
                  .fd = file.fd(),
                  .offset = 0,
                  .data = memory.get(),
                  .bytes = bytes,
                  .tag = 0};
  std::fill_n(memory.get(), bytes, kPattern);
  move_whole(backend, request, clock);
  std::fill_n(memory.get(), bytes, std::byte{0});
  request.kind = OpKind::kRead;
  move_whole(backend, request, clock);
  if (std::count(memory.get(), memory.get() + bytes, kPattern) != std::ptrdiff_t{bytes}) {
    throw IoError("a trial transfer brought back other bytes", EIO);
  }
}

/// Writes a block of `file` through `backend` and reads it back.
void try_transfer(Backend& backend, const IoFile& file, const Clock& clock) {
  const std::uint32_t bytes = std::max(file.alignment(), 4096u);
  AlignedMemory memory = make_zeroed_memory(bytes, bytes);
  try {
    try_transfer_with(backend, file, memory, bytes, clock);
  } catch (const IoError& error) {
    // A transfer that never came back may still be written: its memory is left behind on purpose.
    if (error.code() == ETIMEDOUT) (void)memory.release();
    throw;
  }
}

/// The number that a switch of the kernel is set to, as text; "unknown" where there is none.
std::string value_of(const char* kernel_switch) {
  std::string value = "unknown";
  std::ifstream(kernel_switch) >> value;
  return value;
}

/// The reason why io_uring is not there, and what would change that.
std::string explain_io_uring(int code) {
  switch (code) {
    case EPERM: {
      const std::string disabled = value_of(kIoUringDisabled);
      if (disabled == "0" || disabled == "unknown") {
        return "blocked by a sandbox; allow io_uring_setup to use it";
      }
      return "kernel.io_uring_disabled is " + disabled + "; set it to 0 to use it";
    }
    case ENOSYS: return "not in this kernel (5.11 or later has it), or blocked by a sandbox";
    case ENOMEM: return "too little lockable memory; raise ulimit -l to use it";
    default: return kTrialFailed;
  }
}

std::string explain_libaio(int code) {
  switch (code) {
    case EPERM: return "blocked by a sandbox; allow io_setup and io_submit to use it";
    case ENOSYS: return "not in this kernel (CONFIG_AIO), or blocked by a sandbox";
    case EINVAL: return "Linux 4.18 or later is needed";
    case EAGAIN:
      return "fs.aio-nr is at " + value_of(kAioTaken) + " of fs.aio-max-nr " + value_of(kAioMax) +
             "; raise the latter to use it";
    case ENOMEM: return "too little memory in the kernel; ask for a smaller depth to use it";
    default: return kTrialFailed;
  }
}

/// A backend that has moved bytes of `file`, where it moves any.
std::unique_ptr<Backend> make_tried(IoBackend kind, const IoQueueOptions& options,
                                    const IoFile& file) {
  if (kind == IoBackend::kNull) return make_null_backend(options.depth);  // it moves nothing
  if (kind == IoBackend::kIoUring) {
    // A ring belongs to the thread that first drives it: the trial has one of its own.
    try_transfer(*make_io_uring_backend(1), file, *options.clock);
    return make_io_uring_backend(options.depth);
  }
  std::unique_ptr<Backend> backend =
      kind == IoBackend::kLibaio
          ? make_libaio_backend(options.depth)
          : make_threads_backend(options.depth, options.threads, options.numa_node);
  try_transfer(*backend, file, *options.clock);
  return backend;
}

/// "io_uring: EPERM, blocked by a sandbox; allow io_uring_setup to use it".
std::string describe_refusal(IoBackend kind, const IoError& error) {
  const std::string name = std::string(name_of(kind)) + ": ";
  const std::string word = errno_name(error.code()) + ", ";
  if (kind == IoBackend::kIoUring) return name + word + explain_io_uring(error.code());
  if (kind == IoBackend::kLibaio) return name + word + explain_libaio(error.code());
  return name + error.what();
}

ChosenBackend make_named(const IoQueueOptions& options, const IoFile& file) {
  try {
    ChosenBackend chosen{make_tried(options.backend, options, file), {}};
    chosen.description = chosen.backend->name();
    if (options.backend == IoBackend::kLibaio && !file.direct()) {
      chosen.description += std::string(" (") + kNoOverlap + "; threads overlap here)";
    }
    return chosen;
  } catch (const IoError& error) {
    throw IoError("I/O engine for " + file.path().parent_path().string() + ": " +
                      describe_refusal(options.backend, error),
                  error.code());
  }
}

ChosenBackend make_best(IoQueueOptions options, const IoFile& file) {
  std::string refused;
  const auto note = [&](const std::string& refusal) {
    refused += (refused.empty() ? "" : ". ") + refusal;
  };
  for (const IoBackend kind : {IoBackend::kIoUring, IoBackend::kLibaio}) {
    if (kind == IoBackend::kLibaio && !file.direct()) {
      note(std::string("libaio: ") + kNoOverlap);
      continue;
    }
    try {
      ChosenBackend chosen{make_tried(kind, options, file), {}};
      chosen.description = chosen.backend->name();
      if (!refused.empty()) chosen.description += " (" + refused + ")";
      return chosen;
    } catch (const IoError& error) {
      note(describe_refusal(kind, error));
    }
  }
  options.backend = IoBackend::kThreads;
  ChosenBackend chosen = make_named(options, file);
  chosen.description += " (" + refused + ")";
  return chosen;
}

}  // namespace

ChosenBackend choose_backend(const IoQueueOptions& options, const std::filesystem::path& directory,
                             Logger& log) {
  IoFile file = IoFile::create_scratch(directory);
  file.preallocate(std::max(file.alignment(), 4096u));
  ChosenBackend chosen =
      options.backend == IoBackend::kAuto ? make_best(options, file) : make_named(options, file);
  log.info("I/O engine: " + chosen.description);
  return chosen;
}

}  // namespace strata::aio
