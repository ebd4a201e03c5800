#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

namespace strata::aio {

/// A system call that is to fail, as in a sandbox or on a file system that lacks it.
struct Denial {
  int syscall;
  int code;                                      ///< the errno that it gives
  std::optional<std::uint32_t> second_argument;  ///< only when this is its second argument
};

/// Runs `body` on a thread of its own, on which and on whose children the kernel refuses
/// `denial.syscall` (seccomp). False, without running it, where the kernel takes no filter.
[[nodiscard]] bool run_with_denied_syscall(const Denial& denial, const std::function<void()>& body);

}  // namespace strata::aio
