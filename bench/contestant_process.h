#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "contestant.h"
#include "strata/base/hop.h"

/// \file
/// Contestants in processes of their own, told over a pipe when it is their turn: rounds alternate,
/// only one works at a time, and each one's peak memory is its own.

namespace strata::bench {

/// A contestant's turn: some steps, one after the other, behind one that is not counted. All
/// numbers are means of a step, but the loss, which is the last one's.
struct StepSample {
  double seconds = 0.0;
  double loss = 0.0;
  double system_seconds = 0.0;     ///< time of all threads in the kernel
  std::uint64_t minor_faults = 0;  ///< pages that the kernel had to find or clear
  std::array<HopReading, kHopCount> hops{};
};

/// The parent's side: a copy of this program that runs one contestant.
class ContestantProcess {
 public:
  /// Starts this program again with `arguments`. Throws IoError.
  explicit ContestantProcess(const std::vector<std::string>& arguments);
  /// Closes the pipes, at which the child ends, and waits for it.
  ~ContestantProcess();
  ContestantProcess(ContestantProcess&& other) noexcept;
  ContestantProcess& operator=(ContestantProcess&&) = delete;

  /// A turn of that many steps, and one before them. Throws Error when the child has ended; it has
  /// said why on stderr.
  [[nodiscard]] StepSample turn(int steps);

  /// The most memory that the child ever had resident.
  [[nodiscard]] std::uint64_t peak_rss_bytes();

 private:
  std::string ask(std::string_view request);

  pid_t child_ = -1;
  std::FILE* requests_ = nullptr;
  std::FILE* answers_ = nullptr;
};

/// The child's side: answers on stdout what is asked on stdin, until that ends.
void serve(Contestant& contestant);

}  // namespace strata::bench
