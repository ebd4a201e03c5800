#pragma once

#include <cstdint>
#include <exception>
#include <string>

#include "strata/aio/operation.h"

namespace strata::aio {

/// The failure of an operation, kept without allocating until somebody asks.
struct TransferFailure {
  enum class Kind : std::uint8_t {
    kNone,
    kSystem,     ///< the kernel's answer was `code`
    kEndOfFile,  ///< a read met the end of the file
    kDeadline,   ///< a request never came back
    kBackend,    ///< the I/O engine itself failed with `code`; it does not have the request
    kLost,       ///< the I/O engine failed with `code`, and has the request
  };
  Kind kind = Kind::kNone;
  int code = 0;
  std::uint64_t offset = 0;  ///< start of the failed request, or of the part not begun
  std::uint64_t bytes = 0;
};

/// "read of /data/x at offset 4096, 1048576 bytes", as all messages name a transfer.
[[nodiscard]] std::string describe_transfer(const Operation& operation, std::uint64_t offset,
                                            std::uint64_t bytes);

/// The message: what, where, why and what to do next.
[[nodiscard]] std::string describe_failure(const Operation& operation,
                                           const TransferFailure& failure);

/// The DeadlineExceeded or IoError that `kind` stands for.
[[nodiscard]] std::exception_ptr make_error(TransferFailure::Kind kind, int code,
                                            const std::string& message);

/// The error of a finished operation; null when it did not fail.
[[nodiscard]] std::exception_ptr error_of(const Operation& operation,
                                          const TransferFailure& failure);

}  // namespace strata::aio
