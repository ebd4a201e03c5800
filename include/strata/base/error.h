#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

/// \file
/// Every exception that Strata throws. A message says what happened, where (file, tensor, offset),
/// why (the operating system's word or the violated rule) and what to do next. Catch
/// `strata::Error` for all of them.

namespace strata {

/// Base of all errors of operation: bad input, a full disk, a failed transfer.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A configuration value or command line that cannot be used.
class ConfigError : public Error {
 public:
  using Error::Error;
};

/// An input file (safetensors, index, tokens, text) that is malformed, hostile or does not match.
class DataError : public Error {
 public:
  using Error::Error;
};

/// A tier's budget cannot hold what is asked of it.
class BudgetError : public Error {
 public:
  using Error::Error;
};

/// A system call or transfer failed. `code()` is the errno, 0 where there is none (an unexpected
/// end of file).
class IoError : public Error {
 public:
  IoError(const std::string& message, int code) : Error(message), code_(code) {}
  [[nodiscard]] int code() const noexcept { return code_; }

 private:
  int code_;
};

/// A transfer did not finish within the configured time. Its buffer may still be written by the
/// device: it is never reused, and the queue that carried it accepts nothing more.
class DeadlineExceeded : public IoError {
 public:
  using IoError::IoError;
};

/// A device failed (an illegal access, a fault of the hardware). It stays failed: every later call
/// for it throws this again, and its memory's contents are lost. Only a new process can go on, or
/// a new device with what was saved before.
class DeviceError : public Error {
 public:
  using Error::Error;
};

/// Another rank of the run died, left or gave up, so an exchange that this rank began with it can
/// never end. Nothing more can be exchanged in this run.
class RankFailure : public Error {
 public:
  RankFailure(const std::string& message, int rank) : Error(message), rank_(rank) {}
  /// The rank that failed.
  [[nodiscard]] int rank() const noexcept { return rank_; }

 private:
  int rank_;
};

/// Bytes came back from a tier that are not the bytes that were written to it.
class CorruptData : public Error {
 public:
  using Error::Error;
};

/// The caller broke a contract of the API (wrong order of calls, wrong shape). A bug in the calling
/// program.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// Builds the `IoError` of a failed system call:
/// "<action> <path>: <strerror> (<errno name>); <hint>".
[[nodiscard]] IoError system_error(std::string_view action, std::string_view path, int code,
                                   std::string_view hint = {});

/// The symbolic name of an errno ("ENOSPC"), or "errno N" for one that has none here.
[[nodiscard]] std::string errno_name(int code);

namespace detail {
[[noreturn]] void fail_check(const char* condition, const char* file, int line,
                             const std::string& values);
}  // namespace detail

}  // namespace strata

/// Holds an invariant of Strata's own code, in every build. A violation throws std::logic_error
/// with the condition, the place and `values` (a std::string with the run-time values).
#define STRATA_CHECK(condition, values)                                       \
  do {                                                                        \
    if (!(condition)) [[unlikely]]                                            \
      ::strata::detail::fail_check(#condition, __FILE__, __LINE__, (values)); \
  } while (false)
