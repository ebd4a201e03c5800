#include <utility>

#include "aio/io_queue_impl.h"

namespace strata::aio {

std::string IoQueue::Impl::ask_driver(DriverCommand& command) {
  std::unique_lock lock(mutex);
  if (breakdown) return "the queue accepts nothing more: " + breakdown->message;
  if (has_stopped) return "the queue has ended";
  command.next = std::exchange(commands, &command);
  backend->wake();
  obeyed.wait(lock, [&] { return command.is_done; });
  return std::move(command.answer);
}

void IoQueue::Impl::obey(DriverCommand* first) {
  if (first == nullptr) return;
  for (DriverCommand* command = first; command != nullptr; command = command->next) {
    try {
      command->answer = driver.call().is_taken() ? "the I/O engine does not come back from a call"
                                                 : command->carry_out(*backend, *command);
    } catch (const std::exception& error) {
      command->answer = error.what();
    }
  }
  {
    // A command ends with the wait of its owner.
    const std::lock_guard lock(mutex);
    for (DriverCommand* command = first; command != nullptr;) {
      std::exchange(command, command->next)->is_done = true;
    }
  }
  obeyed.notify_all();
}

IoPreparation IoQueue::prepare(std::span<std::byte> memory) {
  DriverCommand command{
      .carry_out = [](Backend& backend,
                      const DriverCommand& asked) { return backend.prepare_memory(asked.memory); },
      .memory = memory};
  IoPreparation preparation;
  preparation.refusal_ = impl_->ask_driver(command);
  if (!preparation.refusal_.empty()) return preparation;
  preparation.queue_ = impl_;
  preparation.memory_ = memory;
  return preparation;
}

IoPreparation IoQueue::prepare(const IoFile& file) {
  DriverCommand command{
      .carry_out = [](Backend& backend,
                      const DriverCommand& asked) { return backend.prepare_file(asked.fd); },
      .fd = file.fd()};
  IoPreparation preparation;
  preparation.refusal_ = impl_->ask_driver(command);
  if (!preparation.refusal_.empty()) return preparation;
  preparation.queue_ = impl_;
  preparation.fd_ = file.fd();
  return preparation;
}

IoPreparation::IoPreparation(IoPreparation&& other) noexcept = default;

IoPreparation& IoPreparation::operator=(IoPreparation&& other) noexcept {
  if (this == &other) return *this;
  forget();
  queue_ = std::move(other.queue_);
  memory_ = other.memory_;
  fd_ = other.fd_;
  refusal_ = std::move(other.refusal_);
  return *this;
}

IoPreparation::~IoPreparation() { forget(); }

void IoPreparation::forget() noexcept {
  const auto queue = std::static_pointer_cast<IoQueue::Impl>(std::exchange(queue_, nullptr));
  if (!queue) return;
  DriverCommand command{.carry_out =
                            [](Backend& backend, const DriverCommand& asked) {
                              if (asked.fd >= 0) {
                                backend.forget_file(asked.fd);
                              } else {
                                backend.forget_memory(asked.memory);
                              }
                              return std::string();
                            },
                        .memory = memory_,
                        .fd = fd_};
  // A queue that has ended or broken down issues no requests that could use it.
  (void)queue->ask_driver(command);
}

}  // namespace strata::aio
