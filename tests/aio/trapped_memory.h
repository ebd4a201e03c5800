#pragma once

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace strata::aio {

/// Memory at which whoever touches it first stands still until `release`: in the kernel, for a
/// buffered transfer, as at a disk that does not answer.
class TrappedMemory {
 public:
  explicit TrappedMemory(std::size_t bytes)
      : memory_(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)),
        bytes_(bytes),
        trap_(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK))) {
    uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
    uffdio_register range{
        .range = {.start = reinterpret_cast<std::uintptr_t>(memory_), .len = bytes},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
        .ioctls = 0};
    set_ = trap_ >= 0 && ::ioctl(trap_, UFFDIO_API, &api) == 0 &&
           ::ioctl(trap_, UFFDIO_REGISTER, &range) == 0;
  }
  ~TrappedMemory() {
    release();
    ::munmap(memory_, bytes_);
  }
  TrappedMemory(const TrappedMemory&) = delete;
  TrappedMemory& operator=(const TrappedMemory&) = delete;

  /// False where the kernel, or this user's rights, do not have it.
  [[nodiscard]] bool is_set() const { return set_; }
  [[nodiscard]] std::span<std::byte> span() const {
    return {static_cast<std::byte*>(memory_), bytes_};
  }

  /// Waits until somebody stands still. False when nobody does for half a minute.
  [[nodiscard]] bool wait_for_somebody() const {
    pollfd state{.fd = trap_, .events = POLLIN, .revents = 0};
    return ::poll(&state, 1, 30'000) == 1;
  }
  void release() {
    if (trap_ >= 0) ::close(trap_);
    trap_ = -1;
  }

 private:
  void* memory_;
  std::size_t bytes_;
  int trap_;
  bool set_ = false;
};

}  // namespace strata::aio
