#include "strata/aio/io_channel.h"

#include <utility>

#include "aio/acceptor.h"
#include "aio/engine_parts.h"
#include "strata/base/error.h"

namespace strata::aio {

using detail::OperationState;
using std::chrono::nanoseconds;

struct IoChannel::Impl final : EngineParts, detail::Acceptor, std::enable_shared_from_this<Impl> {
  Impl(const IoQueueOptions& wanted, ChosenBackend chosen, Logger& log)
      : EngineParts(wanted, std::move(chosen), log) {
    for (std::uint32_t i = 0; i < options.operations_max; ++i) states[i].acceptor = this;
  }

  /// Gives the operation a place and hands it to the driver.
  OperationState& accept(const Operation& operation);
  void turn(nanoseconds wait_max);
  std::size_t hand_back(std::span<IoOutcome> outcomes);

  void wait_for(OperationState& state, std::uint32_t generation) noexcept override;
  void look() noexcept override { turn(nanoseconds(0)); }
  void reclaim(OperationState& state) override;
  void forget_memory(std::span<std::byte> memory) noexcept override;
  void forget_file(int fd) noexcept override;

  detail::OperationList outbox;  // finished operations with a tag, for `reap` to hand back
  std::uint32_t unfinished = 0;  // operations with a tag
};

OperationState& IoChannel::Impl::accept(const Operation& operation) {
  OperationState& state = free.pop_front();
  state.operation = operation;
  return state;
}

void IoChannel::Impl::turn(nanoseconds wait_max) {
  driver.turn(wait_max);
  driver.take_finished(finished);
  for (OperationState* state : finished) {
    if (!state->has_ticket) {
      outbox.push_back(*state);
    } else if (state->end_use()) {
      free.push_back(*state);
    }
  }
  finished.clear();
}

void IoChannel::Impl::wait_for(OperationState& state, std::uint32_t generation) noexcept {
  while (!state.is_over(generation)) turn(nanoseconds::max());
}

void IoChannel::Impl::reclaim(OperationState& state) {
  state.reclaim();
  free.push_back(state);
}

void IoChannel::Impl::forget_memory(std::span<std::byte> memory) noexcept {
  if (backend) backend->forget_memory(memory);
}

void IoChannel::Impl::forget_file(int fd) noexcept {
  if (backend) backend->forget_file(fd);
}

std::size_t IoChannel::Impl::hand_back(std::span<IoOutcome> outcomes) {
  std::size_t stored = 0;
  while (stored < outcomes.size() && !outbox.empty()) {
    OperationState& state = outbox.pop_front();
    outcomes[stored++] = {.tag = state.tag, .error = error_of(state.operation, state.failure)};
    free.push_back(state);
    --unfinished;
  }
  return stored;
}

IoChannel::IoChannel(const IoQueueOptions& options, const std::filesystem::path& probe_directory,
                     Logger& log)
    : impl_(std::make_shared<Impl>(options, choose_backend(checked(options), probe_directory, log),
                                   log)) {}

IoChannel::IoChannel(const IoQueueOptions& options, std::unique_ptr<Backend> backend, Logger& log)
    : impl_(std::make_shared<Impl>(options, chosen_by_caller(std::move(backend)), log)) {}

IoChannel::~IoChannel() {
  while (!impl_->driver.idle()) impl_->turn(nanoseconds::max());
  if (impl_->driver.has_finished()) impl_->look();
  impl_->backend.reset();  // tickets may keep the rest for longer
}

bool IoChannel::try_submit(const Operation& operation, std::uint64_t tag) {
  check_operation(operation);
  throw_if_broken(impl_->driver.breakdown());
  if (impl_->free.empty()) return false;
  OperationState& state = impl_->accept(operation);
  state.tag = tag;
  state.has_ticket = false;
  ++impl_->unfinished;
  impl_->driver.add(state);
  return true;
}

std::optional<IoTicket> IoChannel::try_submit(const Operation& operation) {
  check_operation(operation);
  if (impl_->free.empty()) impl_->turn(nanoseconds(0));
  throw_if_broken(impl_->driver.breakdown());
  if (impl_->free.empty()) return std::nullopt;
  OperationState& state = impl_->accept(operation);
  state.has_ticket = true;
  IoTicket ticket({impl_, &state}, state.phase.load());
  impl_->driver.add(state);
  impl_->turn(nanoseconds(0));
  return ticket;
}

IoTicket IoChannel::submit(const Operation& operation) {
  while (true) {
    if (std::optional<IoTicket> ticket = try_submit(operation)) return std::move(*ticket);
    if (wait_for_room(nanoseconds::max())) continue;
    throw_no_room(impl_->options.operations_max);
  }
}

bool IoChannel::wait_for_room(nanoseconds timeout) {
  const Clock& clock = *impl_->options.clock;
  const Time begin = clock.now();
  while (impl_->free.empty() && !impl_->driver.breakdown()) {
    const nanoseconds left = timeout - (clock.now() - begin);
    const bool nothing_will_end = impl_->driver.idle() && !impl_->driver.has_finished();
    if (nothing_will_end || left <= nanoseconds(0)) return false;
    impl_->turn(left);
  }
  return true;
}

std::size_t IoChannel::reap(std::span<IoOutcome> outcomes, nanoseconds timeout) {
  if (impl_->unfinished == 0 || outcomes.empty()) return 0;
  const Time begin = impl_->options.clock->now();
  nanoseconds left = impl_->outbox.empty() ? timeout : nanoseconds(0);
  while (true) {
    impl_->turn(left);
    if (!impl_->outbox.empty()) return impl_->hand_back(outcomes);
    left = timeout - (impl_->options.clock->now() - begin);
    if (left <= nanoseconds(0)) return 0;
  }
}

IoRegistration IoChannel::register_memory(std::span<std::byte> memory) {
  return {impl_, memory, -1, impl_->backend->register_memory(memory)};
}

IoRegistration IoChannel::register_file(const IoFile& file) {
  return {impl_, {}, file.fd(), impl_->backend->register_file(file.fd())};
}

std::uint32_t IoChannel::operations_max() const noexcept { return impl_->options.operations_max; }

std::shared_ptr<const LostMemory> IoChannel::lost_memory() const noexcept { return impl_->lost; }

std::uint32_t IoChannel::unfinished() const noexcept { return impl_->unfinished; }

IoStatistics IoChannel::statistics() const { return impl_->driver.statistics(); }

const IoQueueOptions& IoChannel::options() const noexcept { return impl_->options; }

const std::string& IoChannel::description() const noexcept { return impl_->description; }

}  // namespace strata::aio
