#include "support/sim_device.h"

#include <algorithm>
#include <cerrno>
#include <exception>
#include <memory>
#include <utility>

#include "strata/base/error.h"

namespace strata::support {

using tiering::DeviceMemory;
using tiering::Event;
using tiering::HostRegistration;

/// A point in the work of a stream. Its members are the device's, under the device's mutex.
class SimDevice::Mark final : public Event::State {
 public:
  Mark(SimDevice& device, StreamRole stream, const VectorClock& point, std::size_t after)
      : device_(device),
        point_(point),
        name_(std::string(tiering::name_of(stream)) + " after #" + std::to_string(after)) {}

  bool is_done() override {
    const std::lock_guard lock(device_.mutex_);
    device_.throw_if_failed();
    if (is_reached_) device_.let_see(kHostTimeline, "the host", *this);
    return is_reached_;
  }

  void synchronize(std::chrono::nanoseconds timeout) override {
    std::unique_lock lock(device_.mutex_);
    device_.await(*this, lock, timeout);
    device_.let_see(kHostTimeline, "the host", *this);
  }

 private:
  friend class SimDevice;
  SimDevice& device_;
  const VectorClock point_;
  const std::string name_;  // for reports
  bool is_reached_ = false;
};

SimDevice::SimDevice(const SimDeviceOptions& options)
    : options_(options),
      properties_{.name = "simulated accelerator",
                  .total_bytes = options.capacity_bytes,
                  .memory_is_host = false,
                  .copies_are_asynchronous = true},
      shadow_(options.address_space_bytes),
      live_(properties_.name),
      random_(options.seed) {}

SimDevice::~SimDevice() {
  const std::lock_guard lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
}

// ---- memory
// --------------------------------------------------------------------------------------

DeviceMemory SimDevice::allocate(std::uint64_t bytes, std::string_view what) {
  if (bytes == 0) throw UsageError("device memory for " + std::string(what) + ": no bytes asked");
  const std::lock_guard lock(mutex_);
  throw_if_failed();
  const bool fails = ++allocations_ == options_.fail_allocation;
  const std::uint64_t free = fails ? 0 : options_.capacity_bytes - used_;
  if (bytes > free) {
    throw BudgetError("device " + properties_.name + ": no room for " + std::string(what) + ": " +
                      std::to_string(bytes) + " bytes asked, " + std::to_string(free) + " of " +
                      std::to_string(options_.capacity_bytes) + " free");
  }
  const DeviceSpan memory = shadow_.take(bytes);
  live_.add(memory, what);
  clock_.call(range_of(memory), std::string(what));
  used_ += bytes;
  return give(memory);
}

void SimDevice::take_back(DeviceSpan memory) noexcept {
  const std::lock_guard lock(mutex_);
  const auto of_stream = freed_by_stream_.extract(memory.address());
  const Ranges range{range_of(memory)};
  live_.remove(memory);
  used_ -= memory.bytes();
  if (stopping_ || !failure_.empty()) return;  // nothing runs any more that could be in the way
  if (of_stream) {
    put(of_stream.mapped(), "free", {}, range, [this, memory] { shadow_.give_back(memory); });
  } else {
    clock_.operate(kHostTimeline, "free", {}, range);
    shadow_.give_back(memory);
  }
}

void SimDevice::free_on(StreamRole stream, DeviceMemory memory) {
  if (memory.span().empty()) return;
  const std::lock_guard lock(mutex_);
  freed_by_stream_.emplace(memory.span().address(), stream);
}  // the argument goes when the lock has gone

std::optional<std::span<std::byte>> SimDevice::host_view(DeviceSpan range) {
  const std::lock_guard lock(mutex_);
  throw_if_failed();
  live_.check("host_view", range);
  return std::nullopt;
}

HostRegistration SimDevice::register_host(std::span<std::byte> memory, std::string_view what) {
  if (memory.empty()) {
    throw UsageError("registration of " + std::string(what) + ": it has no bytes");
  }
  const std::lock_guard lock(mutex_);
  throw_if_failed();
  clock_.call(range_of(memory), std::string(what));
  if (options_.refuse_registration) {
    return refuse("registration of " + std::string(what) + " (" + std::to_string(memory.size()) +
                  " bytes) was refused, as the test asked");
  }
  return give(memory);
}

void SimDevice::take_back(std::span<std::byte> registered) noexcept {
  const std::lock_guard lock(mutex_);
  if (!failure_.empty()) return;
  clock_.operate(kHostTimeline, "end of registration", {}, Ranges{range_of(registered)});
}

// ---- operations
// ----------------------------------------------------------------------------------

void SimDevice::copy_to_device(StreamRole stream, std::span<const std::byte> from, DeviceSpan to) {
  const std::lock_guard lock(mutex_);
  live_.check_copy("copy_to_device", from, to);
  put(stream, "copy_to_device", {range_of(from)}, {range_of(to)}, [this, from, to] {
    const auto bytes = lock_bytes();
    std::ranges::copy(from, touchable(to).begin());
  });
}

void SimDevice::copy_to_host(StreamRole stream, DeviceSpan from, std::span<std::byte> to) {
  const std::lock_guard lock(mutex_);
  live_.check_copy("copy_to_host", from, to);
  put(stream, "copy_to_host", {range_of(from)}, {range_of(to)}, [this, from, to] {
    const auto bytes = lock_bytes();
    std::ranges::copy(touchable(from), to.begin());
  });
}

void SimDevice::copy_within(StreamRole stream, DeviceSpan from, DeviceSpan to) {
  const std::lock_guard lock(mutex_);
  live_.check_copy("copy_within", from, to);
  put(stream, "copy_within", {range_of(from)}, {range_of(to)}, [this, from, to] {
    const auto bytes = lock_bytes();
    std::ranges::copy(touchable(from), touchable(to).begin());
  });
}

void SimDevice::fill(StreamRole stream, DeviceSpan range, std::byte value) {
  const std::lock_guard lock(mutex_);
  live_.check("fill", range);
  put(stream, "fill", {}, {range_of(range)}, [this, range, value] {
    const auto bytes = lock_bytes();
    std::ranges::fill(touchable(range), value);
  });
}

void SimDevice::run_on(StreamRole stream, const std::string& name, const Ranges& reads,
                       const Ranges& writes, std::function<void()> function) {
  const std::lock_guard lock(mutex_);
  check(name, reads);
  check(name, writes);
  put(stream, name, reads, writes, std::move(function));
}

void SimDevice::host_access(const std::string& name, const Ranges& reads, const Ranges& writes,
                            const std::function<void()>& function) {
  {
    const std::lock_guard lock(mutex_);
    clock_.operate(kHostTimeline, name, reads, writes);
  }
  const auto bytes = lock_bytes();
  function();
}

void SimDevice::note_host_read(std::span<const std::byte> memory) {
  const std::lock_guard lock(mutex_);
  clock_.operate(kHostTimeline, "read by the host", Ranges{range_of(memory)}, {});
}

void SimDevice::note_host_write(std::span<const std::byte> memory) {
  const std::lock_guard lock(mutex_);
  clock_.operate(kHostTimeline, "write by the host", {}, Ranges{range_of(memory)});
}

void SimDevice::check(std::string_view operation, const Ranges& ranges) const {
  for (const AddressRange& range : ranges) {
    if (shadow_.contains(range.address)) live_.check(operation, {range.address, range.bytes});
  }
}

void SimDevice::put(StreamRole stream, std::string_view name, const Ranges& reads,
                    const Ranges& writes, std::function<void()>&& function) {
  throw_if_failed();
  const std::size_t number = ++operations_;
  std::string numbered = std::string(name) + " #" + std::to_string(number);
  clock_.operate(timeline_of(stream), numbered, reads, writes);
  const auto most = static_cast<std::uint64_t>(options_.max_delay.count());
  const std::chrono::microseconds delay(most == 0 ? 0 : random_() % (most + 1));
  streams_[static_cast<std::size_t>(stream)].push(
      [this, number, delay, named = std::move(numbered), work = std::move(function)] {
        perform(number, delay, named, work);
      });
}

void SimDevice::perform(std::size_t number, std::chrono::microseconds delay,
                        const std::string& name, const std::function<void()>& function) {
  {
    std::unique_lock lock(mutex_);
    if (number == options_.hang_operation) changed_.wait(lock, [this] { return stopping_; });
    if (delay.count() > 0) changed_.wait_for(lock, delay, [this] { return stopping_; });
    if (stopping_ || !failure_.empty()) return;
  }
  if (number == options_.fail_operation) return fail(name + " failed, as the test asked");
  try {
    function();
  } catch (const std::exception& error) {
    fail(name + " failed: " + error.what());
  }
}

void SimDevice::fail(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  if (failure_.empty()) failure_ = "device " + properties_.name + ": " + reason;
  changed_.notify_all();
}

void SimDevice::throw_if_failed() const {
  if (!failure_.empty()) throw DeviceError(failure_);
}

// ---- events
// --------------------------------------------------------------------------------------

std::shared_ptr<SimDevice::Mark> SimDevice::put_mark(StreamRole stream) {
  throw_if_failed();
  auto mark = std::make_shared<Mark>(*this, stream, clock_.now(timeline_of(stream)), operations_);
  streams_[static_cast<std::size_t>(stream)].push([this, mark] {
    const std::lock_guard lock(mutex_);
    mark->is_reached_ = true;
    changed_.notify_all();
  });
  return mark;
}

Event SimDevice::record(StreamRole stream) {
  const std::lock_guard lock(mutex_);
  return Event(put_mark(stream));
}

void SimDevice::wait(StreamRole stream, const Event& event) {
  if (event.state() == nullptr) return;
  const auto mark = std::dynamic_pointer_cast<Mark>(event.state());
  if (mark == nullptr || &mark->device_ != this) {
    throw UsageError("wait on " + properties_.name + " for an event of another device");
  }
  const std::lock_guard lock(mutex_);
  throw_if_failed();
  let_see(timeline_of(stream), "stream " + std::string(tiering::name_of(stream)), *mark);
  streams_[static_cast<std::size_t>(stream)].push([this, mark] {
    std::unique_lock lock_of_task(mutex_);
    changed_.wait(lock_of_task,
                  [&] { return mark->is_reached_ || stopping_ || !failure_.empty(); });
  });
}

void SimDevice::settle(StreamRole stream, std::chrono::nanoseconds timeout) {
  std::unique_lock lock(mutex_);
  const auto mark = put_mark(stream);
  await(*mark, lock, timeout);
}

void SimDevice::await(const Mark& mark, std::unique_lock<std::mutex>& lock,
                      std::chrono::nanoseconds timeout) {
  const auto over = [&] { return mark.is_reached_ || !failure_.empty(); };
  if (!changed_.wait_for(lock, timeout, over)) {
    throw DeadlineExceeded("device " + properties_.name + ": " + mark.name_ +
                               " was not reached in time; its memory is still lent",
                           ETIMEDOUT);
  }
  throw_if_failed();
}

void SimDevice::let_see(Timeline who, const std::string& name, const Mark& mark) {
  if (clock_.is_behind(who, mark.point_)) return;
  waits_.push_back(name + " for " + mark.name_);
  if (waits_.size() != options_.suppress_wait) clock_.join(who, mark.point_);
}

// ---- what was found
// ------------------------------------------------------------------------------

std::vector<Race> SimDevice::races() const {
  const std::lock_guard lock(mutex_);
  return clock_.races();
}

std::vector<std::string> SimDevice::waits() const {
  const std::lock_guard lock(mutex_);
  return waits_;
}

std::size_t SimDevice::operations() const {
  const std::lock_guard lock(mutex_);
  return operations_;
}

}  // namespace strata::support
