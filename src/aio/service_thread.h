#pragma once

#include <functional>
#include <string>
#include <thread>

namespace strata::aio {

/// Starts a thread that serves the process rather than the caller: it has a name (at most 15
/// characters, seen in top and gdb) and all signals blocked, so that the application's handlers
/// never run on it and a write beyond `ulimit -f` is an error of the transfer, not the end of the
/// process. Throws IoError when the system gives no thread.
[[nodiscard]] std::thread start_service_thread(const std::string& name, std::function<void()> body);

}  // namespace strata::aio
