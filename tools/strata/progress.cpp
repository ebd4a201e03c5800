#include "progress.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ostream>

namespace strata::tool {
namespace {

constexpr int kBarWidth = 30;
constexpr int kBarWidthMin = 10;
constexpr int kColumns = 79;  // a line that the terminal breaks cannot be redrawn in place
constexpr const char* kEraseLine = "\r\x1b[K";

}  // namespace

Progress::Progress(std::ostream& out, bool terminal, std::int64_t steps,
                   std::int64_t steps_per_print, std::int64_t steps_before)
    : out_(out),
      terminal_(terminal),
      steps_(steps),
      steps_per_print_(steps_per_print),
      steps_before_(steps_before) {}

Progress::~Progress() {
  if (bar_stands_) out_ << kEraseLine << std::flush;
}

void Progress::step(const StepRecord& record) {
  since_last_line_ += record.interval;
  since_start_ += record.interval;
  if (record.step == steps_before_ + 1 || record.step == steps_ ||
      record.step % steps_per_print_ == 0) {
    print_line(step_line(record, steps_, since_last_line_));
    since_last_line_ = {};
  }
  if (terminal_ && record.step < steps_) draw_bar(record);
}

void Progress::evaluation(const EvaluationRecord& record) { print_line(evaluation_line(record)); }

void Progress::print_line(const std::string& line) {
  if (terminal_) out_ << kEraseLine;
  out_ << line << std::endl;
  bar_stands_ = false;
}

void Progress::draw_bar(const StepRecord& record) {
  const double done = static_cast<double>(record.step) / static_cast<double>(steps_);
  const double left = since_start_.seconds / static_cast<double>(record.step - steps_before_) *
                      static_cast<double>(steps_ - record.step);
  char numbers[96];
  std::snprintf(numbers, sizeof numbers, "] %3.0f%%  step %lld/%lld  loss %.4f  ", 100 * done,
                static_cast<long long>(record.step), static_cast<long long>(steps_), record.loss);
  const std::string right = numbers + format_duration(left) + " left";
  const int room = kColumns - 1 - static_cast<int>(right.size());
  const int width = std::clamp(room, kBarWidthMin, kBarWidth);
  const int filled = static_cast<int>(done * width);
  // The cursor goes back to the start, so that a warning in between overwrites the bar.
  out_ << kEraseLine << '[' << std::string(static_cast<std::size_t>(filled), '#')
       << std::string(static_cast<std::size_t>(width - filled), '.') << right << '\r' << std::flush;
  bar_stands_ = true;
}

std::string format_duration(double seconds) {
  const auto whole = static_cast<long long>(std::llround(std::max(0.0, seconds)));
  char text[48];
  if (whole < 3600) {
    std::snprintf(text, sizeof text, "%lld:%02lld", whole / 60, whole % 60);
  } else {
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60,
                  whole % 60);
  }
  return text;
}

}  // namespace strata::tool
