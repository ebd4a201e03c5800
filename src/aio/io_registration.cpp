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

void IoQueue::Impl::forget_memory(std::span<std::byte> memory) noexcept {
  DriverCommand command{.carry_out =
                            [](Backend& engine, const DriverCommand& asked) {
                              engine.forget_memory(asked.memory);
                              return std::string();
                            },
                        .memory = memory};
  // A queue that has ended or broken down issues no requests that could use it.
  (void)ask_driver(command);
}

void IoQueue::Impl::forget_file(int fd) noexcept {
  DriverCommand command{.carry_out =
                            [](Backend& engine, const DriverCommand& asked) {
                              engine.forget_file(asked.fd);
                              return std::string();
                            },
                        .fd = fd};
  (void)ask_driver(command);
}

IoRegistration IoQueue::register_memory(std::span<std::byte> memory) {
  DriverCommand command{
      .carry_out = [](Backend& backend,
                      const DriverCommand& asked) { return backend.register_memory(asked.memory); },
      .memory = memory};
  return {impl_, memory, -1, impl_->ask_driver(command)};
}

IoRegistration IoQueue::register_file(const IoFile& file) {
  DriverCommand command{
      .carry_out = [](Backend& backend,
                      const DriverCommand& asked) { return backend.register_file(asked.fd); },
      .fd = file.fd()};
  return {impl_, {}, file.fd(), impl_->ask_driver(command)};
}

IoRegistration::IoRegistration(std::shared_ptr<detail::Acceptor> acceptor,
                               std::span<std::byte> memory, int fd, std::string refusal)
    : memory_(memory), fd_(fd), refusal_(std::move(refusal)) {
  if (refusal_.empty()) acceptor_ = std::move(acceptor);
}

IoRegistration::IoRegistration(IoRegistration&& other) noexcept = default;

IoRegistration& IoRegistration::operator=(IoRegistration&& other) noexcept {
  if (this == &other) return *this;
  forget();
  acceptor_ = std::move(other.acceptor_);
  memory_ = other.memory_;
  fd_ = other.fd_;
  refusal_ = std::move(other.refusal_);
  return *this;
}

IoRegistration::~IoRegistration() { forget(); }

void IoRegistration::forget() noexcept {
  const auto acceptor = std::exchange(acceptor_, nullptr);
  if (!acceptor) return;
  if (fd_ >= 0) {
    acceptor->forget_file(fd_);
  } else {
    acceptor->forget_memory(memory_);
  }
}

}  // namespace strata::aio
