#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>

#include "strata/base/error.h"

/// \file
/// Messages between two ranks that are processes: all that MessageRanks needs of a transport.

namespace strata::zero3 {

/// The other end of a connection is gone, or the connection is: nothing more goes through it.
class ConnectionLost : public Error {
 public:
  using Error::Error;
};

/// Bytes on their way to a rank, or from one. Their memory is lent until it is destroyed, done or
/// not; the destructor does not wait for the other end. Thread: one at a time; abort from any.
class Message {
 public:
  virtual ~Message() = default;
  /// Returns true once the bytes have left their memory, or are in it; false when it was aborted.
  /// Throws ConnectionLost.
  virtual bool wait() = 0;
  /// As `wait`, for so long at most. Throws ConnectionLost when that is over, and then everything
  /// else of the messenger may be lost too.
  virtual bool wait_at_most(std::chrono::milliseconds patience) = 0;
  /// Ends the wait under way, or the next one.
  virtual void abort() noexcept = 0;
};

/// Messages of the same tag between the same two ranks come in the order in which they were sent. A
/// message to receive has room for the one that comes. Nothing here waits: `send` and `receive`
/// begin. They throw ConnectionLost. Thread: any.
class Messenger {
 public:
  Messenger() = default;
  virtual ~Messenger() = default;
  Messenger(const Messenger&) = delete;
  Messenger& operator=(const Messenger&) = delete;

  [[nodiscard]] virtual std::unique_ptr<Message> send(int to, int tag,
                                                      std::span<const std::byte> bytes) = 0;
  [[nodiscard]] virtual std::unique_ptr<Message> receive(int from, int tag,
                                                         std::span<std::byte> bytes) = 0;
  /// Receives from whichever rank sends first. It need not notice that a connection is lost; where
  /// one is lost within a message to it, it throws, and the next one receives from the others.
  [[nodiscard]] virtual std::unique_ptr<Message> receive_from_any(int tag,
                                                                  std::span<std::byte> bytes) = 0;
};

}  // namespace strata::zero3
