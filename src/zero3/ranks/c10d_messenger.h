#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include <memory>
#include <mutex>

#include "zero3/ranks/messenger.h"

namespace strata::zero3 {

/// Messages through a c10d backend that takes CPU tensors, each as a tensor of uint8: Gloo refuses
/// int16 and 8-bit floats.
class C10dMessenger final : public Messenger {
 public:
  /// The backend must send and receive without waiting for the other end (`isend`, `irecv`), and
  /// its work must end by `abort`; Gloo's does.
  explicit C10dMessenger(c10::intrusive_ptr<c10d::Backend> backend)
      : backend_(std::move(backend)) {}

  [[nodiscard]] std::unique_ptr<Message> send(int to, int tag,
                                              std::span<const std::byte> bytes) override;
  [[nodiscard]] std::unique_ptr<Message> receive(int from, int tag,
                                                 std::span<std::byte> bytes) override;
  [[nodiscard]] std::unique_ptr<Message> receive_from_any(int tag,
                                                          std::span<std::byte> bytes) override;

 private:
  template <class Begin>
  [[nodiscard]] std::unique_ptr<Message> begin(const Begin& begin_work);

  c10::intrusive_ptr<c10d::Backend> backend_;
  std::mutex mutex_;  // Gloo counts calls without one
};

}  // namespace strata::zero3
