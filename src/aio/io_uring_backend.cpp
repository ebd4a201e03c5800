#include <liburing.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "aio/ring_registry.h"
#include "strata/aio/backend.h"
#include "strata/base/error.h"
#include "strata/base/unseen_order.h"

namespace strata::aio {
namespace {

// liburing maps and unmaps the memory of a ring with system calls of its own, which ThreadSanitizer
// does not see: a ring at the address of one that another thread has taken down looks like a race
// on it. The kernel does order the two: unmapping releases, and mapping the next ring acquires.
UnseenOrder order_of_rings;

// The tag of the ring's own request: the read of the eventfd that `wake` writes to.
constexpr std::uint64_t kWakeTag = ~std::uint64_t{0};

// Marks the tag of a request that was dropped: its entry does nothing.
constexpr std::uint64_t kDropped = std::uint64_t{1} << 63;

// Pause before a kernel short of memory is asked again.
constexpr std::chrono::milliseconds kNoMemoryPause{1};

// Many small requests go to the kernel this many at a time, so that the disk works on the first
// ones while the others are prepared.
constexpr unsigned kBatch = 8;

/// Requests collect in the submission ring, and one system call per `reap` both submits them and
/// waits. The ring is enabled by the thread that drives it, because a kernel that defers its
/// completion work (IORING_SETUP_DEFER_TASKRUN) ties the ring to that thread.
class IoUringBackend final : public Backend {
 public:
  explicit IoUringBackend(std::uint32_t depth);
  ~IoUringBackend() override;
  IoUringBackend(const IoUringBackend&) = delete;
  IoUringBackend& operator=(const IoUringBackend&) = delete;

  std::string_view name() const noexcept override { return "io_uring"; }
  std::uint32_t capacity() const noexcept override { return depth_; }
  std::size_t enqueue(std::span<const Request> requests) override;
  std::size_t reap(std::span<Completion> completions, std::chrono::nanoseconds timeout) override;
  void drop_unstarted() noexcept override;
  void wake() noexcept override;
  std::string register_memory(std::span<std::byte> memory) override;
  void forget_memory(std::span<std::byte> memory) noexcept override;
  std::string register_file(int fd) override;
  void forget_file(int fd) noexcept override;

 private:
  int set_up_ring();
  void take_down_ring() noexcept;
  void enable_on_this_thread();
  void arm_wake();
  void fill(io_uring_sqe& entry, const Request& request) const;
  io_uring_sqe* next_entry();
  void submit_and_wait(std::chrono::nanoseconds timeout);
  std::size_t collect(std::span<Completion> completions);

  const std::uint32_t depth_;
  std::uint32_t in_flight_ = 0;  // accepted and not yet handed back
  io_uring ring_{};
  RingRegistry registry_{ring_};
  bool enabled_ = false;
  int wake_fd_ = -1;
  std::uint64_t wake_count_ = 0;  // the ring's own read puts the eventfd's value here
};

IoUringBackend::IoUringBackend(std::uint32_t depth) : depth_(depth) {
  const int result = set_up_ring();
  if (result < 0) throw system_error("set up", "io_uring", -result);
  // Timed waits without a request of their own; a kernel that has them has all else used here.
  if ((ring_.features & IORING_FEAT_EXT_ARG) == 0) {
    take_down_ring();
    throw system_error("set up", "io_uring", ENOSYS, "Linux 5.11 or later is needed");
  }
  wake_fd_ = ::eventfd(0, EFD_CLOEXEC);
  if (wake_fd_ < 0) {
    const int code = errno;
    take_down_ring();
    throw system_error("make an eventfd for", "io_uring", code);
  }
}

IoUringBackend::~IoUringBackend() {
  take_down_ring();
  ::close(wake_fd_);
}

/// Asks for the best mode first and lets the kernel say what it does not know.
int IoUringBackend::set_up_ring() {
  const std::uint32_t entries = depth_ + 1;  // one for the wake
  io_uring_params params{};
  params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_R_DISABLED;
  int result = io_uring_queue_init_params(entries, &ring_, &params);
  if (result == -EINVAL) {
    params = {};
    params.flags = IORING_SETUP_R_DISABLED;
    result = io_uring_queue_init_params(entries, &ring_, &params);
  }
  if (result >= 0) order_of_rings.acquire();
  return result;
}

void IoUringBackend::take_down_ring() noexcept {
  order_of_rings.release();
  io_uring_queue_exit(&ring_);
}

void IoUringBackend::enable_on_this_thread() {
  if (enabled_) return;
  // Does what io_uring_enable_rings does, which the shared liburing 2.3 forgets to export.
  const auto fd = static_cast<unsigned>(ring_.ring_fd);
  const int result = io_uring_register(fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
  if (result < 0) throw system_error("enable", "io_uring", -result);
  enabled_ = true;
  // Spares each call the look-up of the ring's descriptor. The registration is this thread's: only
  // a ring that is bound to the thread may be ended from another one.
  if ((ring_.flags & IORING_SETUP_SINGLE_ISSUER) != 0) (void)io_uring_register_ring_fd(&ring_);
  arm_wake();
}

io_uring_sqe* IoUringBackend::next_entry() {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  STRATA_CHECK(entry != nullptr, "in_flight=" + std::to_string(in_flight_));
  return entry;
}

void IoUringBackend::arm_wake() {
  io_uring_sqe* entry = next_entry();
  io_uring_prep_read(entry, wake_fd_, &wake_count_, sizeof wake_count_, 0);
  entry->user_data = kWakeTag;
}

void IoUringBackend::fill(io_uring_sqe& entry, const Request& request) const {
  const bool reading = request.kind == OpKind::kRead;
  const int memory_slot = registry_.slot_of_memory(request.data, request.bytes);
  if (memory_slot == RingRegistry::kNone) {
    const auto opcode = reading ? IORING_OP_READ : IORING_OP_WRITE;
    io_uring_prep_rw(opcode, &entry, request.fd, request.data, request.bytes, request.offset);
  } else {
    const auto opcode = reading ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
    io_uring_prep_rw(opcode, &entry, request.fd, request.data, request.bytes, request.offset);
    entry.buf_index = static_cast<std::uint16_t>(memory_slot);
  }
  if (const int file_slot = registry_.slot_of_file(request.fd); file_slot != RingRegistry::kNone) {
    entry.fd = file_slot;
    entry.flags |= IOSQE_FIXED_FILE;
  }
  entry.user_data = request.tag;
}

std::size_t IoUringBackend::enqueue(std::span<const Request> requests) {
  enable_on_this_thread();
  const auto accepted = std::min<std::size_t>(requests.size(), depth_ - in_flight_);
  for (const Request& request : requests.first(accepted)) {
    fill(*next_entry(), request);
    // Entries that the kernel does not take now go with the next `reap`, which sees its reason.
    if (io_uring_sq_ready(&ring_) >= kBatch) (void)io_uring_submit(&ring_);
  }
  in_flight_ += static_cast<std::uint32_t>(accepted);
  return accepted;
}

std::size_t IoUringBackend::reap(std::span<Completion> completions,
                                 std::chrono::nanoseconds timeout) {
  enable_on_this_thread();
  submit_and_wait(timeout);
  return collect(completions);
}

void IoUringBackend::submit_and_wait(std::chrono::nanoseconds timeout) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
  __kernel_timespec limit{};
  limit.tv_sec = seconds.count();
  limit.tv_nsec = (timeout - seconds).count();
  io_uring_cqe* first = nullptr;
  const int result = io_uring_submit_and_wait_timeout(&ring_, &first, 1, &limit, nullptr);
  if (result >= 0 || result == -ETIME || result == -EINTR) return;
  // The kernel could not take the entries yet: they stay in the ring for the next turn.
  if (result == -EAGAIN || result == -EBUSY) {
    std::this_thread::sleep_for(kNoMemoryPause);
    return;
  }
  throw system_error("submit to", "io_uring", -result);
}

std::size_t IoUringBackend::collect(std::span<Completion> completions) {
  std::size_t stored = 0;
  std::uint32_t seen = 0;
  unsigned head = 0;
  bool woken = false;
  io_uring_cqe* entry = nullptr;
  io_uring_for_each_cqe(&ring_, head, entry) {
    const bool is_wake = entry->user_data == kWakeTag;
    if (!is_wake && stored == completions.size()) break;
    ++seen;
    if (is_wake) {
      woken = true;
    } else {
      const bool dropped = (entry->user_data & kDropped) != 0;
      completions[stored++] = {.tag = entry->user_data & ~kDropped,
                               .result = dropped ? -ECANCELED : entry->res};
    }
  }
  io_uring_cq_advance(&ring_, seen);
  in_flight_ -= static_cast<std::uint32_t>(stored);
  if (woken) arm_wake();
  return stored;
}

/// Turns the requests that are still in the submission ring, unseen by the kernel, into requests
/// that do nothing, which complete like all others.
void IoUringBackend::drop_unstarted() noexcept {
  const unsigned ready = io_uring_sq_ready(&ring_);
  for (unsigned at = ring_.sq.sqe_tail - ready; at != ring_.sq.sqe_tail; ++at) {
    io_uring_sqe& entry = ring_.sq.sqes[at & ring_.sq.ring_mask];
    const std::uint64_t tag = entry.user_data;
    if (tag == kWakeTag) continue;
    io_uring_prep_nop(&entry);
    entry.user_data = tag | kDropped;
  }
}

void IoUringBackend::wake() noexcept {
  const std::uint64_t one = 1;
  // Fails only when 2^64 - 2 wakes are unread, and then the reader is awake anyway.
  [[maybe_unused]] const ssize_t written = ::write(wake_fd_, &one, sizeof one);
}

std::string IoUringBackend::register_memory(std::span<std::byte> memory) {
  enable_on_this_thread();
  return registry_.add_memory(memory);
}

void IoUringBackend::forget_memory(std::span<std::byte> memory) noexcept {
  registry_.remove_memory(memory);
}

std::string IoUringBackend::register_file(int fd) {
  enable_on_this_thread();
  return registry_.add_file(fd);
}

void IoUringBackend::forget_file(int fd) noexcept { registry_.remove_file(fd); }

}  // namespace

std::unique_ptr<Backend> make_io_uring_backend(std::uint32_t depth) {
  return std::make_unique<IoUringBackend>(depth);
}

}  // namespace strata::aio
