#include "support/disk_fault.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "strata/base/units.h"

namespace strata::aio {
namespace {

// What direct transfers ask of memory at most.
constexpr std::size_t kMemoryAlignment = 64 << 10;

std::int64_t move(const Request& request, std::byte* data, std::size_t bytes) {
  const auto offset = static_cast<off_t>(request.offset);
  const ssize_t moved = request.kind == OpKind::kRead ? ::pread(request.fd, data, bytes, offset)
                                                      : ::pwrite(request.fd, data, bytes, offset);
  return moved >= 0 ? moved : -errno;
}

std::int64_t move(const Request& request) { return move(request, request.data, request.bytes); }

/// Fewer bytes than asked, at least 1.
std::uint32_t part_of(const Request& request, std::uint64_t detail) {
  return request.bytes < 2 ? request.bytes
                           : static_cast<std::uint32_t>(1 + detail % (request.bytes - 1));
}

void flip_bit(std::byte* data, std::uint64_t bytes, std::uint64_t detail) {
  const std::uint64_t bit = detail % (8 * bytes);
  data[bit / 8] ^= std::byte{1} << bit % 8;
}

}  // namespace

bool can_strike(Fault fault, OpKind kind) {
  switch (fault.kind) {
    case Fault::Kind::kTorn: return kind == OpKind::kWrite;
    case Fault::Kind::kEndOfFile: return kind == OpKind::kRead;
    case Fault::Kind::kError: return fault.value != ENOSPC || kind == OpKind::kWrite;
    default: return true;
  }
}

std::int64_t FaultyFiles::serve(const Request& request, Fault fault, std::uint64_t detail) {
  switch (fault.kind) {
    case Fault::Kind::kError: return -fault.value;
    case Fault::Kind::kTryAgain: return detail % 2 == 0 ? -EINTR : -EAGAIN;
    case Fault::Kind::kEndOfFile: return 0;
    case Fault::Kind::kLost: return request.bytes;
    case Fault::Kind::kFlippedBit: return move_with_flipped_bit(request, detail);
    case Fault::Kind::kShort:
      return move_part(request, fault.value >= 0 ? static_cast<std::uint32_t>(fault.value)
                                                 : part_of(request, detail));
    case Fault::Kind::kTorn: {
      const std::int64_t moved = write_part(request, part_of(request, detail));
      return moved < 0 ? moved : std::int64_t{request.bytes};
    }
    case Fault::Kind::kMisdirected: {
      Request elsewhere = request;
      elsewhere.offset += static_cast<std::uint64_t>(fault.value);
      return move(elsewhere);
    }
    case Fault::Kind::kNone:
    case Fault::Kind::kStuck:
    case Fault::Kind::kSlow: break;
  }
  return move(request);
}

std::int64_t FaultyFiles::move_part(const Request& request, std::uint32_t bytes) {
  return request.kind == OpKind::kRead ? read_part(request, bytes) : write_part(request, bytes);
}

/// What is behind the part that was moved is not for use, and is made to show it.
std::int64_t FaultyFiles::read_part(const Request& request, std::uint32_t bytes) {
  constexpr std::byte kJunk{0xdb};
  const std::int64_t moved = std::min<std::int64_t>(move(request), bytes);
  if (moved >= 0) std::fill(request.data + moved, request.data + request.bytes, kJunk);
  return moved;
}

/// Direct transfers are of whole blocks: the rest is written as it is on the disk already.
std::int64_t FaultyFiles::write_part(const Request& request, std::uint32_t bytes) {
  std::byte* const image = scratch(request.bytes);
  Request old = request;
  old.kind = OpKind::kRead;
  const std::int64_t there = move(old, image, request.bytes);
  if (there < 0) return there;
  std::copy_n(request.data, bytes, image);
  const auto end = static_cast<std::size_t>(std::max<std::int64_t>(there, bytes));
  return std::min<std::int64_t>(move(request, image, end), bytes);
}

std::int64_t FaultyFiles::move_with_flipped_bit(const Request& request, std::uint64_t detail) {
  if (request.kind == OpKind::kRead) {
    const std::int64_t moved = move(request);
    if (moved > 0) flip_bit(request.data, static_cast<std::uint64_t>(moved), detail);
    return moved;
  }
  // A copy: the owner of the buffer reads it meanwhile.
  std::byte* const image = scratch(request.bytes);
  std::copy_n(request.data, request.bytes, image);
  flip_bit(image, request.bytes, detail);
  return move(request, image, request.bytes);
}

std::byte* FaultyFiles::scratch(std::size_t bytes) {
  if (bytes > scratch_bytes_) {
    scratch_bytes_ = round_up(bytes, kMemoryAlignment);
    scratch_ = make_zeroed_memory(kMemoryAlignment, scratch_bytes_);
  }
  return scratch_.get();
}

}  // namespace strata::aio
