#include "runner.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <future>
#include <iostream>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "number_text.h"
#include "plural.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::nvme_bench {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::duration;
using std::chrono::milliseconds;

constexpr milliseconds kWindow{100};

// Time that threads get beyond the time-out of their requests before they count as held up.
constexpr milliseconds kGrace{2'000};

// ---- before ------------------------------------------------------------------------------------

void check_point(const Point& point, const TargetFiles& files) {
  check(point);
  for (const aio::IoFile& file : files.files()) {
    if (point.block_bytes % file.alignment() != 0) {
      throw ConfigError("a block (--bs) of " + std::to_string(point.block_bytes) +
                        " bytes does not suit " + file.path().parent_path().string() +
                        ", which takes multiples of " + std::to_string(file.alignment()));
    }
    check_fits(point, file.size(), files.files().size());
  }
}

/// Opens files direct or through the page cache, which holds nothing of the files then.
void set_direct(const aio::IoFile& file, bool direct) {
  const std::string path = file.path().string();
  const int flags = ::fcntl(file.fd(), F_GETFL);
  const int wanted = direct && file.direct() ? flags | O_DIRECT : flags & ~O_DIRECT;
  if (flags < 0 || ::fcntl(file.fd(), F_SETFL, wanted) != 0) {
    throw system_error("set the flags of", path, errno);
  }
  if (direct) return;
  if (::fdatasync(file.fd()) != 0) throw system_error("sync", path, errno);
  ::posix_fadvise(file.fd(), 0, 0, POSIX_FADV_DONTNEED);
}

// ---- the threads -------------------------------------------------------------------------------

struct CpuTime {
  double user = 0;
  double system = 0;
};

CpuTime cpu_time_of(int who) {
  rusage usage{};
  ::getrusage(who, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return {seconds(usage.ru_utime), seconds(usage.ru_stime)};
}

/// CPU time of everything that moves bytes: the measuring threads, the engine's and io_uring's
/// workers; not that of the calling thread, which watches them.
CpuTime cpu_time() {
  const CpuTime all = cpu_time_of(RUSAGE_SELF);
  const CpuTime own = cpu_time_of(RUSAGE_THREAD);
  return {all.user - own.user, all.system - own.system};
}

/// The measuring threads and what they share with the thread that watches them.
class Crew {
 public:
  Crew(const Point& point, const Limits& limits, const TargetFiles& files,
       const MakeBackend& make_backend, Logger& log)
      : tallies_(point.threads), results_(point.threads) {
    const std::uint64_t bytes_max = ceil_div(limits.bytes, point.threads);
    threads_.reserve(point.threads);
    left_.reserve(point.threads);
    try {
      for (std::uint32_t i = 0; i < point.threads; ++i) {
        std::promise<void> left;
        left_.push_back(left.get_future());
        threads_.emplace_back([this, &point, &files, &make_backend, &log, i, bytes_max,
                               timeout = limits.timeout, left = std::move(left)]() mutable {
          measure(i, [&] {
            return MeasuringThread(point, files, i, bytes_max, timeout, make_backend, log);
          });
          left.set_value();
        });
      }
    } catch (const std::system_error& error) {
      join();
      throw IoError("start " + tool::counted(point.threads, "thread") + ": " + error.what(),
                    error.code().value());
    }
  }
  ~Crew() { join(); }
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  /// Waits until every thread has its queue; throws an error that one of them met.
  void wait_until_ready() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ready_ == threads_.size() || failure_; });
    throw_failure();
  }

  void enter(Phase phase) {
    phase_.store(phase);
    phase_.notify_all();
  }

  /// Waits until `time`, or until there is nothing more to measure; true then.
  bool wait_until(Clock::time_point time) {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, time,
                               [&] { return ended_ == threads_.size() || lost_ || failure_; });
  }

  /// Waits until `time`, or until all threads have ended; true then.
  bool wait_for_end(Clock::time_point time) {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, time, [&] { return ended_ == threads_.size(); });
  }

  /// Sums since the measurement began.
  [[nodiscard]] Window total() const {
    Window sum;
    for (const Tally& tally : tallies_) {
      sum.bytes_read += tally.bytes_read.load(std::memory_order_relaxed);
      sum.bytes_written += tally.bytes_written.load(std::memory_order_relaxed);
    }
    return sum;
  }

  /// Ends the threads and returns their results; throws an error that one of them met.
  std::vector<ThreadResult> finish() {
    join();
    throw_failure();
    return std::move(results_);
  }

 private:
  template <class Make>
  void measure(std::uint32_t index, const Make& make) {
    std::exception_ptr failure;
    try {
      MeasuringThread thread = make();
      report([&] { ++ready_; });
      phase_.wait(Phase::kPreparing);
      if (phase_.load() != Phase::kStopping) {
        results_[index] = thread.run(phase_, tallies_[index]);
      }
      report_end(index, nullptr);
      wait_until_stopping();  // taking down queue and buffers is not part of the measurement
      return;
    } catch (...) {
      failure = std::current_exception();
    }
    report_end(index, failure);
  }

  void report_end(std::uint32_t index, const std::exception_ptr& failure) {
    report([&] {
      ++ended_;
      lost_ = lost_ || !results_[index].unanswered.empty();
      if (!failure_) failure_ = failure;
    });
  }

  void wait_until_stopping() const {
    for (Phase phase = phase_.load(); phase != Phase::kStopping; phase = phase_.load()) {
      phase_.wait(phase);
    }
  }

  template <class Change>
  void report(const Change& change) {
    {
      const std::lock_guard lock(mutex_);
      change();
    }
    changed_.notify_all();
  }

  void throw_failure() {
    if (failure_) std::rethrow_exception(failure_);
  }

  void join() {
    enter(Phase::kStopping);
    for (std::size_t i = 0; i < threads_.size(); ++i) {
      left_[i].wait();
      // The kernel does not let a thread end while a request of its own is stuck.
      if (results_[i].unanswered.empty()) {
        threads_[i].join();
      } else {
        threads_[i].detach();
      }
    }
    threads_.clear();
  }

  std::atomic<Phase> phase_{Phase::kPreparing};
  std::vector<Tally> tallies_;
  std::vector<ThreadResult> results_;
  std::mutex mutex_;  // guards what follows, but not the threads
  std::condition_variable changed_;
  std::size_t ready_ = 0;  // threads that have a queue
  std::size_t ended_ = 0;
  bool lost_ = false;  // a thread's disk does not answer any more
  std::exception_ptr failure_;
  std::vector<std::future<void>> left_;  // ready when the threads have left this object
  std::vector<std::thread> threads_;
};

// ---- the watch over them -----------------------------------------------------------------------

/// Cuts the time into windows and asks after each whether to go on.
class Watch {
 public:
  Watch(Crew& crew, const std::function<bool(const Window&)>& on_window)
      : crew_(crew), on_window_(on_window), last_(Clock::now()) {}

  /// Watches until `end`, or until nobody moves anything any more. False: it is to end here.
  bool go_on_until(Clock::time_point end, std::vector<Window>* windows) {
    while (Clock::now() < end) {
      const bool ended = crew_.wait_until(std::min(end, last_ + kWindow));
      const Window window = take_window();
      if (windows != nullptr && window.seconds > 0) windows->push_back(window);
      if (on_window_ && !on_window_(window)) return false;
      if (ended) return false;
    }
    return true;
  }

 private:
  Window take_window() {
    const Clock::time_point now = Clock::now();
    const Window total = crew_.total();
    const Window window{.seconds = duration<double>(now - last_).count(),
                        .bytes_read = total.bytes_read - total_.bytes_read,
                        .bytes_written = total.bytes_written - total_.bytes_written};
    total_ = total;
    last_ = now;
    return window;
  }

  Crew& crew_;
  const std::function<bool(const Window&)>& on_window_;
  Clock::time_point last_;
  Window total_;
};

/// Ends the process without taking anything down: a thread that the kernel does not give back can
/// be neither joined nor left alone with the memory that it works on.
[[noreturn]] void give_up(const Point& point, const Limits& limits) {
  std::cerr
      << "ds_nvme_bench: a measuring thread (" << name_of(point.engine)
      << ") is held up in a system call for more than "
      << compact(duration<double>(limits.timeout).count())
      << " s; the file system is frozen or the disk stuck (see dmesg), and the process may have "
         "to wait for it in the kernel\n"
      << std::flush;
  std::_Exit(EXIT_FAILURE);
}

void add(DirectionResult& sum, const DirectionResult& part) {
  sum.bytes += part.bytes;
  sum.requests += part.requests;
  sum.short_transfers += part.short_transfers;
  sum.errors += part.errors;
  sum.latency.merge(part.latency);
}

void gather(PointResult& result, const std::vector<ThreadResult>& parts) {
  Clock::time_point begin = Clock::time_point::max();
  Clock::time_point end = Clock::time_point::min();
  for (const ThreadResult& part : parts) {
    add(result.read, part.read);
    add(result.write, part.write);
    if (result.first_error.empty()) result.first_error = part.first_error;
    if (result.unanswered.empty()) result.unanswered = part.unanswered;
    if (part.begin == Clock::time_point{}) continue;  // it was ended before it was counted on
    begin = std::min(begin, part.begin);
    end = std::max(end, part.end);
  }
  result.engine = parts.front().engine;
  result.seconds = end > begin ? duration<double>(end - begin).count() : 0;
  // Takes both over the same time: their sum is what the disks moved.
  if (result.read.requests > 0) result.read.seconds = result.seconds;
  if (result.write.requests > 0) result.write.seconds = result.seconds;
}

}  // namespace

PointResult run_point(const Point& point, const Limits& limits, const TargetFiles& files,
                      Logger& log, const std::function<bool(const Window&)>& on_window,
                      const MakeBackend& make_backend) {
  check_point(point, files);
  for (const aio::IoFile& file : files.files()) set_direct(file, point.direct);

  PointResult result;
  result.point = point;
  result.windows.reserve(static_cast<std::size_t>(limits.runtime / kWindow) + 2);
  Crew crew(point, limits, files, make_backend, log);
  crew.wait_until_ready();

  Watch watch(crew, on_window);
  bool going_on = true;
  if (limits.ramp.count() > 0) {
    crew.enter(Phase::kRamp);
    going_on = watch.go_on_until(Clock::now() + limits.ramp, nullptr);
  }
  if (going_on) {
    const CpuTime before = cpu_time();
    crew.enter(Phase::kMeasuring);
    watch.go_on_until(Clock::now() + limits.runtime, &result.windows);
    const CpuTime after = cpu_time();
    // Counters of a process and of a thread are rounded apart.
    result.user_cpu_seconds = std::max(0.0, after.user - before.user);
    result.system_cpu_seconds = std::max(0.0, after.system - before.system);
  }
  crew.enter(Phase::kStopping);
  const Clock::time_point patience_ends = Clock::now() + limits.timeout + kGrace;
  while (!crew.wait_for_end(Clock::now() + kWindow)) {
    if (on_window) (void)on_window({});
    if (Clock::now() >= patience_ends) give_up(point, limits);
  }
  gather(result, crew.finish());
  return result;
}

}  // namespace strata::nvme_bench
