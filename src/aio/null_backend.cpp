#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "strata/aio/backend.h"

namespace strata::aio {
namespace {

/// Completes a request the moment it accepts it. Only a `reap` that finds nothing takes a lock.
class NullBackend final : public Backend {
 public:
  explicit NullBackend(std::uint32_t depth) : depth_(depth) { completions_.reserve(depth); }

  std::string_view name() const noexcept override { return "null"; }
  std::uint32_t capacity() const noexcept override { return depth_; }

  std::size_t enqueue(std::span<const Request> requests) override {
    const auto accepted = std::min<std::size_t>(requests.size(), depth_ - completions_.size());
    for (const Request& request : requests.first(accepted)) {
      completions_.push_back({.tag = request.tag, .result = request.bytes});
    }
    return accepted;
  }

  std::size_t reap(std::span<Completion> completions, std::chrono::nanoseconds timeout) override {
    if (completions_.empty()) {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, timeout, [&] { return woken_; });
      woken_ = false;
      return 0;
    }
    const std::size_t count = std::min(completions.size(), completions_.size());
    const auto end = completions_.begin() + static_cast<std::ptrdiff_t>(count);
    std::copy(completions_.begin(), end, completions.begin());
    completions_.erase(completions_.begin(), end);
    return count;
  }

  void wake() noexcept override {
    {
      const std::lock_guard lock(mutex_);
      woken_ = true;
    }
    changed_.notify_one();
  }

 private:
  const std::uint32_t depth_;
  std::vector<Completion> completions_;  // used by the driver's thread only
  std::mutex mutex_;
  std::condition_variable changed_;
  bool woken_ = false;
};

}  // namespace

std::unique_ptr<Backend> make_null_backend(std::uint32_t depth) {
  return std::make_unique<NullBackend>(depth);
}

}  // namespace strata::aio
