#include "zero3/ranks/c10d_messenger.h"

#include <ATen/ops/from_blob.h>

#include <chrono>
#include <exception>
#include <string>
#include <utility>
#include <vector>

namespace strata::zero3 {
namespace {

/// Longer than any run: what waits here is ended by `abort`. A wait of Gloo's that times out closes
/// every connection.
constexpr std::chrono::milliseconds kForEver = std::chrono::hours(24 * 365);

/// The first sentence of what c10d or Gloo says.
std::string first_sentence_of(const std::exception& error) {
  const std::string text = error.what();
  return text.substr(0, std::min(text.find(". "), text.find('\n')));
}

std::vector<at::Tensor> tensor_over(std::span<const std::byte> bytes) {
  return {at::from_blob(const_cast<std::byte*>(bytes.data()),
                        {static_cast<std::int64_t>(bytes.size())}, at::kByte)};
}

class C10dMessage final : public Message {
 public:
  explicit C10dMessage(c10::intrusive_ptr<c10d::Work> work) : work_(std::move(work)) {}

  bool wait() override { return wait_at_most(kForEver); }
  bool wait_at_most(std::chrono::milliseconds patience) override {
    try {
      return work_->wait(patience);
    } catch (const std::exception& error) {
      throw ConnectionLost(first_sentence_of(error));
    }
  }
  void abort() noexcept override {
    try {
      work_->abort();
    } catch (const std::exception&) {
      return;  // the backend has none: the wait ends when the connection does
    }
  }

 private:
  c10::intrusive_ptr<c10d::Work> work_;
};

}  // namespace

template <class Begin>
std::unique_ptr<Message> C10dMessenger::begin(const Begin& begin_work) {
  try {
    const std::lock_guard lock(mutex_);
    return std::make_unique<C10dMessage>(begin_work());
  } catch (const std::exception& error) {
    throw ConnectionLost(first_sentence_of(error));
  }
}

std::unique_ptr<Message> C10dMessenger::send(int to, int tag, std::span<const std::byte> bytes) {
  std::vector<at::Tensor> tensors = tensor_over(bytes);
  return begin([&] { return backend_->send(tensors, to, tag); });
}

std::unique_ptr<Message> C10dMessenger::receive(int from, int tag, std::span<std::byte> bytes) {
  std::vector<at::Tensor> tensors = tensor_over(bytes);
  return begin([&] { return backend_->recv(tensors, from, tag); });
}

std::unique_ptr<Message> C10dMessenger::receive_from_any(int tag, std::span<std::byte> bytes) {
  std::vector<at::Tensor> tensors = tensor_over(bytes);
  return begin([&] { return backend_->recvAnysource(tensors, tag); });
}

}  // namespace strata::zero3
