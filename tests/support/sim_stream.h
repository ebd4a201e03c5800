#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace strata::support {

/// A stream of a simulated device: a thread that does one task after the other. Thread-safe.
class SimStream {
 public:
  using Task = std::function<void()>;

  SimStream() : thread_([this] { work(); }) {}
  /// Drops the tasks that have not begun, and waits for the one that has.
  ~SimStream();
  SimStream(const SimStream&) = delete;
  SimStream& operator=(const SimStream&) = delete;

  /// Puts a task, which must not throw, behind those that are there.
  void push(Task task);

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  bool stopping_ = false;
  std::thread thread_;  // begins last: it uses the others
};

}  // namespace strata::support
