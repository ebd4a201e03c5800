#include "tiering/faulty_backend.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

namespace strata::tiering {
namespace {

std::int64_t outcome(ssize_t result) { return result < 0 ? -errno : result; }

std::int64_t transfer(const aio::Request& request) {
  const auto offset = static_cast<off_t>(request.offset);
  return outcome(request.kind == aio::OpKind::kRead
                     ? pread(request.fd, request.data, request.bytes, offset)
                     : pwrite(request.fd, request.data, request.bytes, offset));
}

std::int64_t transfer_with_flipped_bit(const aio::Request& request) {
  constexpr std::byte kBit{0x10};
  if (request.kind == aio::OpKind::kRead) {
    const std::int64_t result = transfer(request);
    request.data[request.bytes / 3] ^= kBit;
    return result;
  }
  // A copy: the owner of the buffer reads it meanwhile.
  struct alignas(4096) Block {
    std::byte bytes[4096];
  };
  std::vector<Block> copy((request.bytes + sizeof(Block) - 1) / sizeof(Block));
  aio::Request changed = request;
  changed.data = copy.front().bytes;
  std::copy_n(request.data, request.bytes, changed.data);
  changed.data[request.bytes / 3] ^= kBit;
  return transfer(changed);
}

std::int64_t transfer_with(const aio::Request& request, Fault fault, std::int64_t misdirection) {
  aio::Request changed = request;
  switch (fault) {
    case Fault::kFlipBit: return transfer_with_flipped_bit(request);
    case Fault::kMisdirect:
      changed.offset += static_cast<std::uint64_t>(misdirection);
      return transfer(changed);
    case Fault::kLose: return request.bytes;
    case Fault::kTear:
      changed.bytes = request.bytes / 2 / 4096 * 4096;
      transfer(changed);
      return request.bytes;
    case Fault::kFail: return -EIO;
    case Fault::kEndOfFile: return 0;
  }
  return -EINVAL;
}

}  // namespace

void DiskScript::inject(aio::OpKind kind, Fault fault) {
  const std::lock_guard lock(mutex_);
  injections_.push_back({kind, fault});
}

void DiskScript::set_misdirection(std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  misdirection_ = bytes;
}

void DiskScript::hold() {
  const std::lock_guard lock(mutex_);
  held_ = true;
}

void DiskScript::release() {
  const std::lock_guard lock(mutex_);
  held_ = false;
  changed_.notify_all();
}

std::size_t FaultyBackend::enqueue(std::span<const aio::Request> requests) {
  const std::lock_guard lock(script_->mutex_);
  for (const aio::Request& request : requests) {
    auto& injections = script_->injections_;
    const auto next = std::ranges::find(injections, request.kind, &DiskScript::Injection::kind);
    std::int64_t result = 0;
    if (next == injections.end()) {
      result = transfer(request);
    } else {
      result = transfer_with(request, next->fault, script_->misdirection_);
      injections.erase(next);
    }
    completed_.push_back({request.tag, result});
  }
  return requests.size();
}

std::size_t FaultyBackend::reap(std::span<aio::Completion> completions,
                                std::chrono::nanoseconds timeout) {
  std::unique_lock lock(script_->mutex_);
  const auto deliverable = [&] { return !script_->held_ && !completed_.empty(); };
  script_->changed_.wait_for(lock, timeout, [&] { return woken_ || deliverable(); });
  woken_ = false;
  if (!deliverable()) return 0;
  const std::size_t count = std::min(completions.size(), completed_.size());
  std::copy_n(completed_.begin(), count, completions.begin());
  completed_.erase(completed_.begin(), completed_.begin() + static_cast<std::ptrdiff_t>(count));
  return count;
}

void FaultyBackend::wake() noexcept {
  const std::lock_guard lock(script_->mutex_);
  woken_ = true;
  script_->changed_.notify_all();
}

}  // namespace strata::tiering
