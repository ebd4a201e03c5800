#include "support/simulated_disk.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <limits>
#include <queue>
#include <string>
#include <utility>

#include "strata/base/error.h"

namespace strata::aio {
namespace {

using std::chrono::nanoseconds;

/// Nanoseconds until what does not come.
constexpr double kNever = std::numeric_limits<double>::infinity();

constexpr std::size_t index_of(OpKind kind) { return static_cast<std::size_t>(kind); }

void require(bool valid, const std::string& rule) {
  if (!valid) throw ConfigError("simulated disk: " + rule);
}

const DiskOptions& checked(const DiskOptions& options) {
  require(options.depth > 0, "depth must not be zero");
  require(options.latency_min.count() >= 0 && options.latency_min <= options.latency_max,
          "latencies must satisfy 0 <= latency_min <= latency_max");
  require(options.read_bytes_per_second > 0 && options.write_bytes_per_second > 0,
          "both rates must be above zero");
  require(options.overlap >= 0 && options.overlap <= 1, "overlap must lie in [0, 1]");
  for (const OpKind kind : {OpKind::kRead, OpKind::kWrite}) {
    double sum = 0;
    for (const FaultChance& chance : options.chances) {
      require(chance.probability >= 0, "a probability is " + std::to_string(chance.probability));
      if (can_strike(chance.fault, kind)) sum += chance.probability;
    }
    require(sum <= 1, "the probabilities of what can strike a read or a write add up to " +
                          std::to_string(sum) + "; 1 is the most");
  }
  return options;
}

}  // namespace

SimulatedDisk::SimulatedDisk(const DiskOptions& options, ManualClock* clock)
    : options_(checked(options)),
      clock_(clock),
      made_(now()),
      random_(options.seed),
      passed_until_(made_) {}

Time SimulatedDisk::now() const { return clock_ != nullptr ? clock_->now() : kSystemClock.now(); }

void SimulatedDisk::inject(OpKind kind, Fault fault) {
  inject(
      {.fault = fault, .chooses = [kind](const Request& request) { return request.kind == kind; }});
}

void SimulatedDisk::inject(FaultRule rule) {
  const std::lock_guard lock(mutex_);
  rules_.push_back(std::move(rule));
}

void SimulatedDisk::set_chances(std::vector<FaultChance> chances) {
  const std::lock_guard lock(mutex_);
  options_.chances = std::move(chances);
  checked(options_);
}

void SimulatedDisk::hold() {
  const std::lock_guard lock(mutex_);
  held_ = true;
}

void SimulatedDisk::release() {
  {
    const std::lock_guard lock(mutex_);
    held_ = false;
  }
  changed_.notify_all();
}

void SimulatedDisk::start_trace() {
  const std::lock_guard lock(mutex_);
  traces_ = true;
  trace_.clear();
  for (auto& passing : passing_) {
    for (Journey& journey : passing) journey.event = SIZE_MAX;
  }
}

std::vector<DiskEvent> SimulatedDisk::trace() const {
  const std::lock_guard lock(mutex_);
  return trace_;
}

/// In [0, 1), the same on every machine, which the standard's distributions do not promise.
double SimulatedDisk::fraction() { return static_cast<double>(random_() >> 11) * 0x1p-53; }

Fault SimulatedDisk::draw_fault(const Request& request, double draw) {
  for (auto rule = rules_.begin(); rule != rules_.end(); ++rule) {
    if (!can_strike(rule->fault, request.kind) || !rule->chooses(request)) continue;
    if (rule->skipped > 0) {
      --rule->skipped;
      continue;
    }
    const Fault fault = rule->fault;
    if (--rule->times == 0) rules_.erase(rule);
    return fault;
  }
  for (const FaultChance& chance : options_.chances) {
    if (!can_strike(chance.fault, request.kind)) continue;
    if (draw < chance.probability) return chance.fault;
    draw -= chance.probability;
  }
  return Fault::none();
}

/// The requests of one queue or channel. Bytes move in `reap`, on the thread that calls it.
class SimulatedBackend final : public Backend {
 public:
  explicit SimulatedBackend(std::shared_ptr<SimulatedDisk> disk)
      : disk_(std::move(disk)), depth_(disk_->options_.depth) {}
  ~SimulatedBackend() override { disk_->forget(*this); }
  SimulatedBackend(const SimulatedBackend&) = delete;
  SimulatedBackend& operator=(const SimulatedBackend&) = delete;

  std::string_view name() const noexcept override { return "simulated"; }
  std::uint32_t capacity() const noexcept override { return depth_; }
  std::size_t enqueue(std::span<const Request> requests) override;
  std::size_t reap(std::span<Completion> completions, nanoseconds timeout) override;
  void drop_unstarted() noexcept override { dropped_before_ = accepted_; }
  void wake() noexcept override;

  /// The bytes of one of its requests have passed. Under the disk's mutex.
  void arrive(const SimulatedDisk::Journey& journey) { arrived_.push(journey); }

 private:
  void wait_until_due(std::unique_lock<std::mutex>& lock, nanoseconds timeout);
  [[nodiscard]] bool is_due() const {
    return !disk_->held_ && !arrived_.empty() && arrived_.top().due <= disk_->now();
  }

  const std::shared_ptr<SimulatedDisk> disk_;
  const std::uint32_t depth_;
  FaultyFiles files_;
  std::priority_queue<SimulatedDisk::Journey> arrived_;  // due at their times
  std::uint32_t in_flight_ = 0;                          // accepted and not yet handed back
  std::uint64_t accepted_ = 0;
  std::uint64_t dropped_before_ = 0;  // requests of lower numbers move no bytes any more
  bool woken_ = false;                // under the disk's mutex
};

void SimulatedDisk::accept(SimulatedBackend& backend, const Request& request,
                           std::uint64_t number) {
  // As many random words whatever comes of them: the fate of a request depends on nothing but its
  // place in the order of all requests.
  const double draw = fraction();
  const double wait = fraction();
  Journey journey{.backend = &backend, .number = number, .request = request};
  journey.fault = draw_fault(request, draw);
  journey.detail = random_();
  const nanoseconds span = options_.latency_max - options_.latency_min;
  journey.latency =
      options_.latency_min +
      nanoseconds(static_cast<std::int64_t>(static_cast<double>(span.count()) * wait));
  if (journey.fault.kind == Fault::Kind::kSlow) journey.latency += nanoseconds(journey.fault.value);
  const double rate = request.kind == OpKind::kRead ? options_.read_bytes_per_second
                                                    : options_.write_bytes_per_second;
  journey.left = request.bytes / rate * 1e9;
  if (traces_) {
    journey.event = trace_.size();
    note(journey);
  }
  if (journey.fault.kind == Fault::Kind::kStuck) return;
  pass_until(now());
  passing_[index_of(request.kind)].push_back(journey);
  pass_until(now());
}

void SimulatedDisk::note(const Journey& journey) {
  const Request& request = journey.request;
  const auto next_number = static_cast<std::uint32_t>(files_.size());
  const std::uint32_t file = files_.try_emplace(request.fd, next_number).first->second;
  trace_.push_back({.kind = request.kind,
                    .file = file,
                    .offset = request.offset,
                    .bytes = request.bytes,
                    .fault = journey.fault,
                    .accepted = now() - made_,
                    .due = nanoseconds(0)});
}

double SimulatedDisk::slowness() const {
  return passing_[0].empty() || passing_[1].empty() ? 1 : 2 - options_.overlap;
}

double SimulatedDisk::until_next() const {
  double left = kNever;
  for (const auto& passing : passing_) {
    if (!passing.empty()) left = std::min(left, passing.front().left * slowness());
  }
  return left < 1 ? 0 : std::ceil(left);
}

void SimulatedDisk::pass_until(Time time) {
  while (passed_until_ <= time) {
    const double next = until_next();
    const auto room = static_cast<double>((time - passed_until_) / nanoseconds(1));
    const double step = std::min(next, room);
    const double progress = step / slowness();
    passed_until_ += nanoseconds(static_cast<std::int64_t>(step));
    for (auto& passing : passing_) {
      if (!passing.empty()) passing.front().left -= progress;
    }
    if (next > room) return;
    for (auto& passing : passing_) {
      if (passing.empty() || passing.front().left >= 1) continue;
      Journey& journey = passing.front();
      journey.due = passed_until_ + journey.latency;
      if (journey.event < trace_.size()) trace_[journey.event].due = journey.due - made_;
      journey.backend->arrive(journey);
      passing.erase(passing.begin());
    }
  }
}

Time SimulatedDisk::next_time() const {
  const double next = until_next();
  if (next == kNever) return Time::max();
  return passed_until_ + nanoseconds(static_cast<std::int64_t>(next));
}

void SimulatedDisk::forget(const SimulatedBackend& backend) {
  const std::lock_guard lock(mutex_);
  for (auto& passing : passing_) {
    std::erase_if(passing, [&](const Journey& journey) { return journey.backend == &backend; });
  }
}

std::size_t SimulatedBackend::enqueue(std::span<const Request> requests) {
  const std::lock_guard lock(disk_->mutex_);
  const auto count = std::min<std::size_t>(requests.size(), depth_ - in_flight_);
  for (const Request& request : requests.first(count)) disk_->accept(*this, request, accepted_++);
  in_flight_ += static_cast<std::uint32_t>(count);
  return count;
}

std::size_t SimulatedBackend::reap(std::span<Completion> completions, nanoseconds timeout) {
  std::unique_lock lock(disk_->mutex_);
  wait_until_due(lock, timeout);
  std::size_t stored = 0;
  while (stored < completions.size() && is_due()) {
    const SimulatedDisk::Journey next = arrived_.top();
    arrived_.pop();
    lock.unlock();
    const std::int64_t result = next.number < dropped_before_
                                    ? -ECANCELED
                                    : files_.serve(next.request, next.fault, next.detail);
    completions[stored++] = {.tag = next.request.tag, .result = result};
    lock.lock();
  }
  in_flight_ -= static_cast<std::uint32_t>(stored);
  return stored;
}

void SimulatedBackend::wait_until_due(std::unique_lock<std::mutex>& lock, nanoseconds timeout) {
  const Time limit = disk_->now() + timeout;
  disk_->pass_until(disk_->now());
  while (!std::exchange(woken_, false) && !is_due() && disk_->now() < limit) {
    Time until = std::min(limit, disk_->next_time());
    if (!disk_->held_ && !arrived_.empty()) until = std::min(until, arrived_.top().due);
    if (disk_->clock_ != nullptr) {
      disk_->clock_->advance_to(until);
    } else {
      disk_->changed_.wait_until(lock, until);
    }
    disk_->pass_until(disk_->now());
  }
}

void SimulatedBackend::wake() noexcept {
  {
    const std::lock_guard lock(disk_->mutex_);
    woken_ = true;
  }
  disk_->changed_.notify_all();
}

std::unique_ptr<Backend> make_backend(std::shared_ptr<SimulatedDisk> disk) {
  return std::make_unique<SimulatedBackend>(std::move(disk));
}

std::unique_ptr<Backend> make_simulated_backend(const DiskOptions& options) {
  return make_backend(std::make_shared<SimulatedDisk>(options));
}

}  // namespace strata::aio
