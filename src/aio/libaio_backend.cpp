#include <libaio.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <vector>

#include "strata/aio/backend.h"
#include "strata/base/error.h"

namespace strata::aio {
namespace {

// Pause before a kernel that refused the request of `wake` for now is asked again.
constexpr std::chrono::milliseconds kRefusedWakePause{1};

/// True for errors of the kernel as a whole rather than of a request: a sandbox, or no AIO at all.
bool concerns_the_engine(int code) { return code == ENOSYS || code == EPERM; }

/// `enqueue` is one io_submit, `reap` one io_getevents, and the kernel copies a request while it is
/// submitted, so that one array of them serves every call.
///
/// io_getevents waits for completions alone. So one request of the backend's own watches an eventfd
/// (IO_CMD_POLL) that `wake` writes to. It goes off once: only after a wake is there something to
/// pay, one read of the eventfd; the request starts again with the next io_submit, or one of its
/// own when `reap` comes first.
class LibaioBackend final : public Backend {
 public:
  explicit LibaioBackend(std::uint32_t depth);
  ~LibaioBackend() override;
  LibaioBackend(const LibaioBackend&) = delete;
  LibaioBackend& operator=(const LibaioBackend&) = delete;

  std::string_view name() const noexcept override { return "libaio"; }
  std::uint32_t capacity() const noexcept override { return depth_; }
  std::size_t enqueue(std::span<const Request> requests) override;
  bool may_wait_in_enqueue() const noexcept override { return true; }
  std::size_t reap(std::span<Completion> completions, std::chrono::nanoseconds timeout) override;
  void wake() noexcept override;

 private:
  void fill(iocb& entry, const Request& request);
  std::size_t submit();
  void wait(std::chrono::nanoseconds timeout);
  void take(const io_event& event);
  void disarm_wake();

  const std::uint32_t depth_;
  std::uint32_t in_flight_ = 0;  // accepted and not yet handed back
  io_context_t context_ = nullptr;
  int wake_fd_ = -1;
  iocb wake_entry_{};
  bool wake_armed_ = false;
  std::vector<iocb> entries_;
  std::vector<iocb*> to_submit_;     // requests of the call in progress, in order
  std::vector<io_event> events_;     // stored by io_getevents
  std::vector<Completion> results_;  // not yet handed back, the next one at `results_begin_`
  std::size_t results_begin_ = 0;
};

LibaioBackend::LibaioBackend(std::uint32_t depth) : depth_(depth), entries_(depth) {
  to_submit_.reserve(depth + 1);
  events_.resize(depth + 1);
  results_.reserve(depth);
  const int result = io_setup(static_cast<int>(depth + 1), &context_);  // one for the wake
  if (result < 0) throw system_error("set up", "libaio", -result);
  wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd_ < 0) {
    const int code = errno;
    io_destroy(context_);
    throw system_error("make an eventfd for", "libaio", code);
  }
  io_prep_poll(&wake_entry_, wake_fd_, POLLIN);
  to_submit_.push_back(&wake_entry_);
  try {
    submit();
  } catch (const IoError&) {
    io_destroy(context_);
    ::close(wake_fd_);
    throw;
  }
}

LibaioBackend::~LibaioBackend() {
  // io_destroy waits for every request. One that never comes back would hold the caller for ever:
  // then the context is left to the kernel, which ends it with the process.
  if (in_flight_ == 0) io_destroy(context_);
  ::close(wake_fd_);
}

void LibaioBackend::fill(iocb& entry, const Request& request) {
  const auto offset = static_cast<long long>(request.offset);
  if (request.kind == OpKind::kRead) {
    io_prep_pread(&entry, request.fd, request.data, request.bytes, offset);
  } else {
    io_prep_pwrite(&entry, request.fd, request.data, request.bytes, offset);
  }
  static_assert(sizeof entry.data == sizeof request.tag);
  entry.data = reinterpret_cast<void*>(request.tag);
}

std::size_t LibaioBackend::enqueue(std::span<const Request> requests) {
  const auto count = std::min<std::size_t>(requests.size(), depth_ - in_flight_);
  if (count == 0) return 0;
  to_submit_.clear();
  if (!wake_armed_) to_submit_.push_back(&wake_entry_);
  for (std::size_t i = 0; i < count; ++i) {
    fill(entries_[i], requests[i]);
    to_submit_.push_back(&entries_[i]);
  }
  const std::size_t accepted = submit();
  in_flight_ += static_cast<std::uint32_t>(accepted);
  return accepted;
}

/// Submits `to_submit_` and returns how many of its requests were accepted, not counting that of
/// the wake. The kernel takes a prefix and says why it took no more only when asked to begin there.
std::size_t LibaioBackend::submit() {
  std::size_t accepted = 0;
  for (std::size_t at = 0; at < to_submit_.size();) {
    const auto remaining = static_cast<long>(to_submit_.size() - at);
    const int result = io_submit(context_, remaining, to_submit_.data() + at);
    if (result == -EINTR) continue;
    if (result == 0 || result == -EAGAIN || result == -ENOMEM) break;  // not now
    const bool is_wake = to_submit_[at] == &wake_entry_;
    if (result > 0) {
      wake_armed_ = wake_armed_ || is_wake;
      accepted += static_cast<std::size_t>(result) - (is_wake ? 1 : 0);
      at += static_cast<std::size_t>(result);
    } else if (is_wake || concerns_the_engine(-result)) {
      if (accepted > 0) break;  // it will say so again
      throw system_error("submit to", "libaio", -result);
    } else {
      // Something is wrong with this request alone: accepted, and that is its result.
      const auto tag = reinterpret_cast<std::uintptr_t>(to_submit_[at]->data);
      results_.push_back({.tag = tag, .result = result});
      ++accepted;
      ++at;
    }
  }
  return accepted;
}

std::size_t LibaioBackend::reap(std::span<Completion> completions,
                                std::chrono::nanoseconds timeout) {
  if (results_.empty()) wait(timeout);
  const std::size_t stored = std::min(completions.size(), results_.size() - results_begin_);
  std::copy_n(results_.begin() + static_cast<std::ptrdiff_t>(results_begin_), stored,
              completions.begin());
  results_begin_ += stored;
  if (results_begin_ == results_.size()) {
    results_.clear();
    results_begin_ = 0;
  }
  in_flight_ -= static_cast<std::uint32_t>(stored);
  return stored;
}

void LibaioBackend::wait(std::chrono::nanoseconds timeout) {
  if (!wake_armed_) {
    to_submit_.assign(1, &wake_entry_);
    try {
      submit();
    } catch (const IoError&) {
      if (in_flight_ == 0) throw;  // else they can still come home
    }
    if (!wake_armed_) timeout = std::min<std::chrono::nanoseconds>(timeout, kRefusedWakePause);
  }
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
  timespec limit{.tv_sec = seconds.count(), .tv_nsec = (timeout - seconds).count()};
  const int count =
      io_getevents(context_, 1, static_cast<long>(events_.size()), events_.data(), &limit);
  if (count == -EINTR) return;
  if (count < 0) throw system_error("wait for", "libaio", -count);
  for (const io_event& event : std::span(events_).first(static_cast<std::size_t>(count))) {
    take(event);
  }
}

void LibaioBackend::take(const io_event& event) {
  if (event.obj == &wake_entry_) return disarm_wake();
  // Both are signed numbers in disguise. The second is 0 unless a driver has more to say: an error.
  auto result = static_cast<std::int64_t>(event.res);
  const auto second = static_cast<std::int64_t>(event.res2);
  if (result >= 0 && second != 0) result = second < 0 ? second : -EIO;
  results_.push_back({.tag = reinterpret_cast<std::uintptr_t>(event.data), .result = result});
}

/// Empties the eventfd. A wake that comes after this makes the next poll of it end at once.
void LibaioBackend::disarm_wake() {
  std::uint64_t wakes = 0;
  [[maybe_unused]] const ssize_t emptied = ::read(wake_fd_, &wakes, sizeof wakes);
  wake_armed_ = false;
}

void LibaioBackend::wake() noexcept {
  const std::uint64_t one = 1;
  // Fails only when 2^64 - 2 wakes are unread, and then the reader is awake anyway.
  [[maybe_unused]] const ssize_t written = ::write(wake_fd_, &one, sizeof one);
}

}  // namespace

std::unique_ptr<Backend> make_libaio_backend(std::uint32_t depth) {
  return std::make_unique<LibaioBackend>(depth);
}

}  // namespace strata::aio
