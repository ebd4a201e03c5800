#include "overlap_picture.h"

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <vector>

#include "report_numbers.h"
#include "svg_chart.h"

namespace strata::tool {
namespace {

using std::chrono::nanoseconds;

constexpr double kWidth = 1140;
constexpr double kLeft = 150;  // the rows' names stand there
constexpr double kRight = 12;
constexpr double kTop = 34;
constexpr double kRowHeight = 14;
constexpr double kRowGap = 4;
constexpr double kHopGap = 8;
constexpr double kBottom = 34;
constexpr double kFinest = 0.3;  // what is closer together cannot be seen apart
constexpr double kLetterWidth = 7;
constexpr int kTicks = 6;

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

std::string text_at(double x, double y, std::string_view style, const std::string& content) {
  return "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" class=\"" + std::string(style) +
         "\">" + escape_markup(content) + "</text>\n";
}

/// Draws one step, row by row.
class StepPainter {
 public:
  StepPainter(const TraceSummary& trace, const TracedPhase& step) : trace_(trace), step_(step) {}

  std::string paint() {
    paint_phases();
    for (std::size_t hop = 0; hop < kHopCount; ++hop) paint_hop(hop);
    paint_axis();
    const std::string title = escape_markup(step_.name + ": " + time_text(step_.end - step_.begin));
    return "<svg class=\"chart\" viewBox=\"0 0 " + number(kWidth) + " " + number(y_ + kBottom) +
           "\" role=\"img\" aria-label=\"" + title + "\">\n" +
           text_at(0, 18, "chart-title", step_.name + ": " + time_text(step_.end - step_.begin)) +
           rows_ + "</svg>\n";
  }

 private:
  [[nodiscard]] double place(Time time) const {
    const double share = std::chrono::duration<double>(time - step_.begin) /
                         std::chrono::duration<double>(step_.end - step_.begin);
    return kLeft + std::clamp(share, 0.0, 1.0) * (kWidth - kLeft - kRight);
  }

  [[nodiscard]] std::string box(double from, double to) const {
    return "<rect x=\"" + number(from) + "\" y=\"" + number(y_) + "\" width=\"" +
           number(std::max(to - from, kFinest)) + "\" height=\"" + number(kRowHeight) + "\"/>";
  }

  /// The part of the stretches that lies in the step.
  [[nodiscard]] Stretches within(const Stretches& stretches) const {
    Stretches inside;
    for (const auto& [begin, end] : stretches) {
      const Time from = std::max(begin, step_.begin), to = std::min(end, step_.end);
      if (from < to) inside.emplace_back(from, to);
    }
    return inside;
  }

  void paint_phases() {
    for (const TracedPhase& phase : trace_.phases) {
      if (phase.begin < step_.begin || phase.end > step_.end || phase.name == step_.name) continue;
      const double from = place(phase.begin), to = place(phase.end);
      rows_ += "<g style=\"fill:var(--grid)\">" + box(from, to) + "<title>" +
               escape_markup(phase.name + ": " + time_text(phase.end - phase.begin)) +
               "</title></g>\n";
      if (to - from > kLetterWidth * static_cast<double>(phase.name.size())) {
        rows_ += text_at(from + 3, y_ + kRowHeight - 3, "chart-tick", phase.name);
      }
    }
    rows_ += text_at(0, y_ + kRowHeight - 3, "chart-tick", "phases");
    y_ += kRowHeight + kRowGap;
  }

  void paint_hop(std::size_t index) {
    const TracedHop& hop = trace_.hops[index];
    const std::string name = std::to_string(index + 1) + " " + std::string(kHopNames[index]);
    const std::string colour = "class=\"chart-c" + std::to_string(index) + "\" style=\"";
    const double before = y_;
    paint_row(name + ": under way", hop.under_way, colour + "fill:var(--colour);opacity:.55\"");
    paint_row(name + ": work", hop.busy, colour + "fill:var(--colour)\"");
    paint_row(name + ": waiting", hop.waited, "style=\"fill:var(--ink)\"");
    if (y_ > before) y_ += kHopGap - kRowGap;
  }

  void paint_row(const std::string& name, const Stretches& stretches, const std::string& style) {
    const Stretches inside = within(stretches);
    if (inside.empty()) return;
    rows_ += "<g " + style + "><title>" +
             escape_markup(name + ", " + time_text(length_of(inside)) + " of " +
                           time_text(step_.end - step_.begin)) +
             "</title>";
    double from = place(inside.front().first), to = from;
    for (const auto& [begin, end] : inside) {
      if (place(begin) > to + kFinest) {
        rows_ += box(from, to);
        from = place(begin);
      }
      to = place(end);
    }
    rows_ += box(from, to) + "</g>\n" + text_at(0, y_ + kRowHeight - 3, "chart-tick", name);
    y_ += kRowHeight + kRowGap;
  }

  void paint_axis() {
    const nanoseconds whole = step_.end - step_.begin;
    for (int tick = 0; tick <= kTicks; ++tick) {
      const nanoseconds at = whole * tick / kTicks;
      const double x = place(step_.begin + at);
      rows_ += "<line x1=\"" + number(x) + "\" y1=\"" + number(kTop) + "\" x2=\"" + number(x) +
               "\" y2=\"" + number(y_) + "\" class=\"chart-grid\"/>\n";
      rows_ +=
          text_at(x, y_ + 16, tick == kTicks ? "chart-tick chart-end" : "chart-tick chart-middle",
                  time_text(at));
    }
  }

  const TraceSummary& trace_;
  const TracedPhase& step_;
  std::string rows_;
  double y_ = kTop;
};

}  // namespace

std::string overlap_picture(const TraceSummary& trace, const TracedPhase& step) {
  return step.begin < step.end ? StepPainter(trace, step).paint() : "";
}

}  // namespace strata::tool
