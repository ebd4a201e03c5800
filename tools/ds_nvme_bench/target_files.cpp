#include "target_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ostream>
#include <random>

#include "io_memory.h"
#include "random_bytes.h"
#include "strata/aio/io_channel.h"
#include "strata/base/error.h"
#include "strata/base/log.h"
#include "strata/base/units.h"

namespace strata::nvme_bench {
namespace {

constexpr std::uint32_t kFillBlock = 1_MiB;
constexpr std::uint32_t kFillDepth = 16;
constexpr std::chrono::milliseconds kAttention{100};

std::uint64_t random_seed() {
  std::random_device entropy;
  return (std::uint64_t{entropy()} << 32) | entropy();
}

aio::IoQueueOptions queue_options(std::chrono::nanoseconds timeout) {
  aio::IoQueueOptions options{
      .block_bytes = kFillBlock, .depth = kFillDepth, .operations_max = kFillDepth};
  options.fail_after =
      std::max(std::chrono::duration_cast<std::chrono::milliseconds>(timeout), kTimeoutMin);
  options.warn_after = std::min(options.warn_after, options.fail_after);
  return options;
}

/// Writes one file in full, its queue kept full.
class Fill {
 public:
  Fill(const aio::IoFile& file, std::uint64_t seed, std::chrono::nanoseconds timeout)
      : file_(file),
        seed_(seed),
        memory_(kFillDepth * kFillBlock, true),
        channel_(queue_options(timeout), file.path().parent_path(), log_) {}

  void run(const std::function<void(std::uint64_t written)>& on_progress) {
    try {
      write(on_progress);
    } catch (const DeadlineExceeded&) {
      memory_.abandon();  // the device may still read it
      throw;
    }
    if (::fdatasync(file_.fd()) != 0) throw system_error("sync", file_.path().string(), errno);
  }

 private:
  void write(const std::function<void(std::uint64_t written)>& on_progress) {
    for (std::uint32_t slot = 0; slot < kFillDepth; ++slot) write_next(slot);
    std::array<aio::IoOutcome, kFillDepth> outcomes;
    std::uint64_t written = 0;
    while (channel_.unfinished() > 0) {
      const std::size_t count = channel_.reap(outcomes, kAttention);
      for (std::size_t i = 0; i < count; ++i) {
        if (outcomes[i].error) std::rethrow_exception(outcomes[i].error);
        written = std::min(written + kFillBlock, file_.size());
        write_next(static_cast<std::uint32_t>(outcomes[i].tag));
      }
      on_progress(written);
    }
  }

  void write_next(std::uint32_t slot) {
    if (next_ == file_.size()) return;
    const std::uint64_t bytes = std::min<std::uint64_t>(kFillBlock, file_.size() - next_);
    const auto buffer = memory_.bytes().subspan(std::size_t{slot} * kFillBlock, bytes);
    fill_random(buffer, seed_, next_);
    const bool accepted = channel_.try_submit(
        {.kind = aio::OpKind::kWrite, .file = &file_, .offset = next_, .buffer = buffer}, slot);
    STRATA_CHECK(accepted, "the channel refused slot " + std::to_string(slot));
    next_ += bytes;
  }

  const aio::IoFile& file_;
  const std::uint64_t seed_;
  std::uint64_t next_ = 0;
  std::ostream nowhere_{nullptr};  // the engine's messages are in its errors
  Logger log_{nowhere_};
  IoMemory memory_;
  aio::IoChannel channel_;  // last: destroyed before the memory
};

void use_page_cache(const aio::IoFile& file) {
  const int flags = ::fcntl(file.fd(), F_GETFL);
  if (flags < 0 || ::fcntl(file.fd(), F_SETFL, flags & ~O_DIRECT) != 0) {
    throw system_error("leave direct I/O on", file.path().string(), errno);
  }
}

}  // namespace

TargetFiles::TargetFiles(const std::vector<std::filesystem::path>& directories, std::uint64_t bytes,
                         bool direct, const OnProgress& on_progress,
                         std::chrono::nanoseconds timeout)
    : seed_(random_seed()) {
  if (directories.empty()) {
    throw ConfigError("no directory to measure; name one on each disk");
  }
  const std::uint64_t share = bytes / directories.size();
  files_.reserve(directories.size());
  for (const auto& directory : directories) {
    disks_.push_back(aio::describe_disk(directory));
    files_.push_back(aio::IoFile::create_scratch(directory));
    if (!direct) use_page_cache(files_.back());
    if (share < files_.back().alignment()) {
      throw ConfigError("a size of " + format_bytes(bytes) + " is too small to be measured");
    }
    files_.back().preallocate(share / files_.back().alignment() * files_.back().alignment());
    bytes_ += files_.back().size();
  }
  std::uint64_t written_before = 0;
  for (std::size_t i = 0; i < files_.size(); ++i) {
    Fill(files_[i], fill_seed(i), timeout).run([&](std::uint64_t written) {
      if (on_progress) on_progress(written_before + written, bytes_);
    });
    written_before += files_[i].size();
  }
}

std::uint64_t TargetFiles::fill_seed(std::size_t file) const noexcept { return mix(seed_ + file); }

}  // namespace strata::nvme_bench
