#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>

#include "strata/base/clock.h"

/// \file
/// The vocabulary of this layer: what is to be moved, and how it ended. Includes nothing of it.

namespace strata::aio {

class IoFile;
class PathMeter;

enum class OpKind : std::uint8_t { kRead, kWrite };

/// When requests were with the backend: the first one from, the last one until. Times are `Time{}`
/// before that.
struct RequestTimes {
  Time first{}, last{};
};

/// A contiguous transfer between memory and a file. Offset, length and address are multiples of
/// `file->alignment()`; the length may exceed a queue's `block_bytes` and is not zero. The transfer
/// lies within the preallocated file.
struct Operation {
  OpKind kind;
  const IoFile* file;
  std::uint64_t offset;
  std::span<std::byte> buffer;
  PathMeter* meter = nullptr;  ///< counts its requests (path_meter.h); null: nothing does
  /// Written by the queue's thread until the operation has finished; operations may share one.
  /// Null: nobody wants to know.
  RequestTimes* times = nullptr;
};

/// One finished operation that was submitted under a tag.
struct IoOutcome {
  std::uint64_t tag = 0;     ///< the tag it was submitted under
  std::exception_ptr error;  ///< null: done. Else what IoTicket::wait would throw
};

}  // namespace strata::aio
