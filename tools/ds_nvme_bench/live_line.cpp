#include "live_line.h"

#include <algorithm>
#include <utility>

#include "number_text.h"
#include "strata/base/units.h"

namespace strata::nvme_bench {
namespace {

constexpr std::chrono::milliseconds kInterval{450};
constexpr const char* kEraseLine = "\r\x1b[K";

std::string rates(const char* name, std::uint64_t bytes, double seconds,
                  std::uint64_t block_bytes) {
  const double rate = seconds > 0 ? static_cast<double>(bytes) / seconds : 0;
  return std::string(name) + ' ' + fixed(rate / 1e9, 2) + " GB/s, " +
         compact(rate / static_cast<double>(block_bytes)) + " IOPS";
}

}  // namespace

LiveLine::~LiveLine() { clear(); }

bool LiveLine::is_due() {
  const Clock::time_point now = Clock::now();
  if (!terminal_ || now < next_) return false;
  next_ = now + kInterval;
  return true;
}

void LiveLine::draw(const std::string& text) {
  out_ << kEraseLine << text << std::flush;
  drawn_ = true;
}

void LiveLine::clear() {
  if (drawn_) out_ << kEraseLine << std::flush;
  drawn_ = false;
}

void LiveLine::filling(std::uint64_t written, std::uint64_t total) {
  if (is_due()) {
    draw("writing the files: " + format_bytes(written) + " of " + format_bytes(total));
  }
}

void LiveLine::begin(std::string label, double seconds, std::uint64_t block_bytes) {
  label_ = std::move(label);
  seconds_ = seconds;
  block_bytes_ = block_bytes;
  elapsed_ = 0;
  moving_ = false;
  since_drawn_ = {};
}

void LiveLine::add(const Window& window) {
  elapsed_ += window.seconds;
  moving_ = moving_ || window.bytes_read + window.bytes_written > 0;
  if (!moving_) return;  // the ramp, which would only lower the first rates shown
  since_drawn_.seconds += window.seconds;
  since_drawn_.bytes_read += window.bytes_read;
  since_drawn_.bytes_written += window.bytes_written;
  if (!is_due()) return;
  const double done = seconds_ > 0 ? std::min(1.0, elapsed_ / seconds_) : 1;
  draw(label_ + ": [" + fixed(100 * done, 0) + "%] [" +
       rates("r", since_drawn_.bytes_read, since_drawn_.seconds, block_bytes_) + "] [" +
       rates("w", since_drawn_.bytes_written, since_drawn_.seconds, block_bytes_) + "] [eta " +
       duration_text(seconds_ - elapsed_) + "]");
  since_drawn_ = {};
}

}  // namespace strata::nvme_bench
