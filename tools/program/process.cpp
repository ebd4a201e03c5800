#include "process.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <initializer_list>

namespace strata::tool {

void prepare_process() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(fd, F_GETFD) != -1 || errno != EBADF) continue;
    (void)!open("/dev/null", O_RDWR);  // the lowest number that is free
  }
  (void)std::signal(SIGXFSZ, SIG_IGN);
}

}  // namespace strata::tool
