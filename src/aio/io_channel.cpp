#include "strata/aio/io_channel.h"

#include <utility>

#include "aio/engine_parts.h"
#include "strata/base/error.h"

namespace strata::aio {

using detail::OperationState;
using std::chrono::nanoseconds;

struct IoChannel::Impl : EngineParts {
  using EngineParts::EngineParts;

  void turn(nanoseconds wait_max);
  std::size_t hand_back(std::span<IoOutcome> outcomes);

  detail::OperationList outbox;  // finished, for `reap` to hand back
  std::uint32_t unfinished = 0;
};

void IoChannel::Impl::turn(nanoseconds wait_max) {
  driver.turn(wait_max);
  driver.take_finished(finished);
  for (OperationState* state : finished) outbox.push_back(*state);
  finished.clear();
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
    : impl_(std::make_unique<Impl>(options, choose_backend(checked(options), probe_directory, log),
                                   log)) {}

IoChannel::IoChannel(const IoQueueOptions& options, std::unique_ptr<Backend> backend, Logger& log)
    : impl_(std::make_unique<Impl>(options, chosen_by_caller(std::move(backend)), log)) {}

IoChannel::~IoChannel() {
  while (!impl_->driver.idle()) impl_->turn(nanoseconds::max());
}

bool IoChannel::try_submit(const Operation& operation, std::uint64_t tag) {
  check_operation(operation);
  throw_if_broken(impl_->driver.breakdown());
  if (impl_->free.empty()) return false;
  OperationState& state = impl_->free.pop_front();
  state.operation = operation;
  state.tag = tag;
  ++impl_->unfinished;
  impl_->driver.add(state);
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

std::string IoChannel::prepare(std::span<std::byte> memory) {
  return impl_->backend->prepare_memory(memory);
}
void IoChannel::forget(std::span<std::byte> memory) noexcept {
  impl_->backend->forget_memory(memory);
}
std::string IoChannel::prepare(const IoFile& file) {
  return impl_->backend->prepare_file(file.fd());
}
void IoChannel::forget(const IoFile& file) noexcept { impl_->backend->forget_file(file.fd()); }

std::uint32_t IoChannel::unfinished() const noexcept { return impl_->unfinished; }

IoStatistics IoChannel::statistics() const { return impl_->driver.statistics(); }

const IoQueueOptions& IoChannel::options() const noexcept { return impl_->options; }

const std::string& IoChannel::description() const noexcept { return impl_->description; }

}  // namespace strata::aio
