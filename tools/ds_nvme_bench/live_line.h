#pragma once

#include <chrono>
#include <cstdint>
#include <ostream>
#include <string>

#include "result.h"

namespace strata::nvme_bench {

/// One line of a terminal that is redrawn about twice a second, and gone at the end. On anything
/// but a terminal it shows nothing.
class LiveLine {
 public:
  LiveLine(std::ostream& out, bool terminal) : out_(out), terminal_(terminal) {}
  ~LiveLine();
  LiveLine(const LiveLine&) = delete;
  LiveLine& operator=(const LiveLine&) = delete;

  /// Shows files being written: "writing the files: 1.20 GiB of 2.00 GiB".
  void filling(std::uint64_t written, std::uint64_t total);

  /// Begins a measurement of `seconds` in all; `label` goes in front of its rates.
  void begin(std::string label, double seconds, std::uint64_t block_bytes);
  /// Shows its next window.
  void add(const Window& window);

  /// Takes the line away.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;

  [[nodiscard]] bool is_due();
  void draw(const std::string& text);

  std::ostream& out_;
  const bool terminal_;
  bool drawn_ = false;
  Clock::time_point next_{};

  std::string label_;
  double seconds_ = 0;
  double elapsed_ = 0;
  bool moving_ = false;
  std::uint64_t block_bytes_ = 1;
  Window since_drawn_;
};

}  // namespace strata::nvme_bench
