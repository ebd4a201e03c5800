#pragma once

#include <cerrno>
#include <cstdint>
#include <string>

#include "strata/base/error.h"

namespace strata::zero3 {

/// The error that ended a run: a value, so that every rank that meets it throws the same.
struct Failure {
  enum class Kind : std::uint32_t { kUsage, kRank, kDeadline } kind;
  int rank;  ///< the one that failed, or found the mistake
  std::string message;

  [[noreturn]] void raise() const {
    if (kind == Kind::kUsage) throw UsageError(message);
    if (kind == Kind::kRank) throw RankFailure(message, rank);
    throw DeadlineExceeded(message, ETIMEDOUT);
  }
};

}  // namespace strata::zero3
