#include "aio/transfer_failure.h"

#include <cerrno>
#include <system_error>

#include "strata/aio/io_file.h"
#include "strata/base/error.h"

namespace strata::aio {
namespace {

std::string words_of(int code) {
  return std::generic_category().message(code) + " (" + errno_name(code) + ")";
}

std::string next_step_for(int code) {
  switch (code) {
    case ENOSPC: return "free some space on this file system";
    case EDQUOT: return "the disk quota of this user is used up; raise it";
    case EFBIG: return "raise the limit on file sizes (ulimit -f)";
    case EINVAL: return "the file system refuses this alignment or length";
    case EAGAIN: return "the kernel kept asking to try again; it may be short of memory";
    default: return "see the kernel's log (dmesg) for the device's report";
  }
}

}  // namespace

std::string describe_transfer(const Operation& operation, std::uint64_t offset,
                              std::uint64_t bytes) {
  return std::string(operation.kind == OpKind::kRead ? "read of " : "write of ") +
         operation.file->path().string() + " at offset " + std::to_string(offset) + ", " +
         std::to_string(bytes) + " bytes";
}

std::string describe_failure(const Operation& operation, const TransferFailure& failure) {
  const std::string transfer = describe_transfer(operation, failure.offset, failure.bytes);
  switch (failure.kind) {
    case TransferFailure::Kind::kEndOfFile:
      return transfer + ": unexpected end of file; something else truncated it";
    case TransferFailure::Kind::kDeadline:
      return transfer +
             ": the deadline passed without an answer; the device or its file system is stuck "
             "(see dmesg), and the buffer may still be written to";
    case TransferFailure::Kind::kBackend:
      return transfer + ": the I/O engine failed: " + words_of(failure.code) +
             "; nothing more goes through this queue";
    case TransferFailure::Kind::kLost:
      return transfer + ": the I/O engine failed: " + words_of(failure.code) +
             "; nothing more goes through this queue, and the buffer may still be written to";
    case TransferFailure::Kind::kNone:
    case TransferFailure::Kind::kSystem: break;
  }
  return transfer + ": " + words_of(failure.code) + "; " + next_step_for(failure.code);
}

std::exception_ptr make_error(TransferFailure::Kind kind, int code, const std::string& message) {
  switch (kind) {
    case TransferFailure::Kind::kDeadline:
    case TransferFailure::Kind::kLost:
      return std::make_exception_ptr(DeadlineExceeded(message, code));
    default: return std::make_exception_ptr(IoError(message, code));
  }
}

std::exception_ptr error_of(const Operation& operation, const TransferFailure& failure) {
  if (failure.kind == TransferFailure::Kind::kNone) return nullptr;
  return make_error(failure.kind, failure.code, describe_failure(operation, failure));
}

}  // namespace strata::aio
