#include "aio/denied_syscall.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include <array>
#include <cstddef>
#include <thread>

namespace strata::aio {
namespace {

bool install_filter(const Denial& denial) {
  const auto number = static_cast<std::uint32_t>(denial.syscall);
  const auto code = SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(denial.code);
  // Without a wanted argument the second test compares the call's number once more.
  const std::uint32_t tested = denial.second_argument
                                   ? offsetof(struct seccomp_data, args) + sizeof(std::uint64_t)
                                   : offsetof(struct seccomp_data, nr);
  std::array<sock_filter, 6> program = {{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, tested),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, denial.second_argument.value_or(number), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, code),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  }};
  const sock_fprog filter = {.len = program.size(), .filter = program.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

}  // namespace

bool run_with_denied_syscall(const Denial& denial, const std::function<void()>& body) {
  bool installed = false;
  // A filter holds for its thread and ends with it.
  std::thread([&] {
    installed = install_filter(denial);
    if (installed) body();
  }).join();
  return installed;
}

}  // namespace strata::aio
