#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "aio/aligned_memory.h"
#include "strata/aio/backend.h"

namespace strata::aio {

/// What goes wrong with one request: the words in which all tests speak of a disk's faults.
struct Fault {
  enum class Kind : std::uint8_t {
    kNone,
    kError,      ///< nothing is moved; the answer is the errno `value`
    kTryAgain,   ///< likewise, EINTR or EAGAIN
    kShort,      ///< the first `value` bytes are moved, and said to be; -1: a drawn number of them
    kEndOfFile,  ///< a read finds nothing there
    kTorn,       ///< a write is reported whole; a drawn number of its first bytes is there
    kLost,       ///< reported whole; nothing is moved
    kMisdirected,  ///< reported whole; the bytes are those of a place `value` bytes further on
    kFlippedBit,   ///< one bit of what comes back, or of what reaches the disk, differs
    kStuck,        ///< the request does not come back
    kSlow,         ///< all is well, `value` nanoseconds late
  };
  Kind kind = Kind::kNone;
  std::int64_t value = 0;

  static Fault none() { return {}; }
  static Fault error(int code) { return {Kind::kError, code}; }
  static Fault try_again() { return {Kind::kTryAgain, 0}; }
  static Fault shortened() { return {Kind::kShort, -1}; }
  static Fault shortened_to(std::int64_t bytes) { return {Kind::kShort, bytes}; }
  static Fault end_of_file() { return {Kind::kEndOfFile, 0}; }
  static Fault torn() { return {Kind::kTorn, 0}; }
  static Fault lost() { return {Kind::kLost, 0}; }
  static Fault misdirected(std::int64_t bytes = 4096) { return {Kind::kMisdirected, bytes}; }
  static Fault flipped_bit() { return {Kind::kFlippedBit, 0}; }
  static Fault stuck() { return {Kind::kStuck, 0}; }
  static Fault slow(std::chrono::nanoseconds time) { return {Kind::kSlow, time.count()}; }

  bool operator==(const Fault&) const = default;
};

/// Whether the fault can happen to a request of this kind.
[[nodiscard]] bool can_strike(Fault fault, OpKind kind);

/// The side of a made-up disk that has the bytes: real files. Carries out requests with their
/// faults, but for those of time (kStuck, kSlow), which move all bytes.
class FaultyFiles {
 public:
  /// Bytes moved as the disk reports them, or a negated errno. `detail` decides what a fault leaves
  /// open: which bit, how many bytes.
  std::int64_t serve(const Request& request, Fault fault, std::uint64_t detail = 0);

 private:
  std::int64_t move_part(const Request& request, std::uint32_t bytes);
  std::int64_t read_part(const Request& request, std::uint32_t bytes);
  std::int64_t write_part(const Request& request, std::uint32_t bytes);
  std::int64_t move_with_flipped_bit(const Request& request, std::uint64_t detail);
  std::byte* scratch(std::size_t bytes);

  AlignedMemory scratch_;
  std::size_t scratch_bytes_ = 0;
};

}  // namespace strata::aio
