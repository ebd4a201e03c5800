#include "svg_chart.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

#include "strata/base/error.h"

namespace strata::tool {
namespace {

// The plot's place in the picture.
constexpr double kLeft = 56;
constexpr double kRight = 68;  // names of the series stand there
constexpr double kTop = 40;
constexpr double kBottom = 46;
constexpr int kTicksWanted = 5;
constexpr double kLabelHeight = 13;  // names at the lines' ends keep this distance
constexpr double kTickWidth = 44;    // and ticks at values that

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", value);
  return text;
}

std::string short_number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, value >= 1000 ? "%.0f" : "%.3g", value);
  return text;
}

/// A step of 1, 2 or 5 times a power of ten.
double round_step(double rough) {
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (rough <= factor * power) return factor * power;
  }
  return 10 * power;
}

/// Maps values to places, and knows its ticks.
class Mapping {
 public:
  /// `to_a_tick`: the axis goes on to the next tick after the largest value.
  Mapping(const Axis& axis, const std::set<double>& values, bool to_a_tick, double from, double to)
      : logarithmic_(axis.scale == AxisScale::kLogarithmic), from_(from), to_(to) {
    low_ = logarithmic_ ? *values.begin() : std::min(0.0, *values.begin());
    high_ = *values.rbegin();
    if (axis.ticks_at_values) {
      ticks_.assign(values.begin(), values.end());
    } else if (logarithmic_) {
      take_powers_of_ten();
    } else {
      take_round_numbers(to_a_tick);
    }
    if (high_ <= low_) {  // a single value stands in the middle
      high_ = logarithmic_ ? high_ * 2 : high_ + 1;
      low_ = logarithmic_ ? low_ / 2 : low_;
    }
  }

  [[nodiscard]] double place(double value) const {
    const double share = logarithmic_ ? std::log(value / low_) / std::log(high_ / low_)
                                      : (value - low_) / (high_ - low_);
    return from_ + share * (to_ - from_);
  }
  [[nodiscard]] const std::vector<double>& ticks() const { return ticks_; }

 private:
  void take_round_numbers(bool to_a_tick) {
    const double range = high_ > low_ ? high_ - low_ : 1;
    const double step = round_step(range / kTicksWanted);
    if (to_a_tick) high_ = std::ceil(high_ / step - 1e-9) * step;
    if (high_ <= low_) high_ = low_ + step;
    for (int i = 0; low_ + i * step <= high_ + step * 1e-9; ++i) ticks_.push_back(low_ + i * step);
  }

  void take_powers_of_ten() {
    low_ = std::pow(10, std::floor(std::log10(low_) + 1e-9));
    high_ = std::pow(10, std::ceil(std::log10(high_) - 1e-9));
    for (double tick = low_; tick <= high_ * 1.01; tick *= 10) ticks_.push_back(tick);
  }

  bool logarithmic_;
  double from_;
  double to_;
  double low_ = 0;
  double high_ = 1;
  std::vector<double> ticks_;
};

bool can_be_drawn(const Chart& chart, const ChartPoint& point) {
  const auto fits = [](const Axis& axis, double value) {
    return std::isfinite(value) && (axis.scale == AxisScale::kLinear || value > 0);
  };
  return fits(chart.x, point.x) && fits(chart.y, point.y);
}

std::string text_of(const Axis& axis, double value) {
  return escape_markup(axis.text ? axis.text(value) : short_number(value));
}

std::string element(const std::string& name, const std::string& attributes,
                    const std::string& content) {
  return "<" + name + " " + attributes + ">" + content + "</" + name + ">\n";
}

std::string text_at(double x, double y, const std::string& style, const std::string& content) {
  return element("text", "x=\"" + number(x) + "\" y=\"" + number(y) + "\" class=\"" + style + "\"",
                 content);
}

std::string line(double x1, double y1, double x2, double y2, const std::string& style) {
  return "<line x1=\"" + number(x1) + "\" y1=\"" + number(y1) + "\" x2=\"" + number(x2) +
         "\" y2=\"" + number(y2) + "\" class=\"" + style + "\"/>\n";
}

/// Draws one chart.
class Painter {
 public:
  explicit Painter(const Chart& chart) : chart_(chart) {
    STRATA_CHECK(chart.series.size() <= kSeriesMax, chart.title);
    for (const Series& series : chart.series) {
      Series drawn{series.name, {}};
      for (const ChartPoint& point : series.points) {
        if (!can_be_drawn(chart, point)) continue;
        drawn.points.push_back(point);
        xs_.insert(point.x);
        ys_.insert(point.y);
      }
      series_.push_back(std::move(drawn));
    }
  }

  std::string paint() {
    const std::string title = escape_markup(chart_.title);
    std::string svg = "<svg class=\"chart\" viewBox=\"0 0 " + std::to_string(chart_.width) + " " +
                      std::to_string(chart_.height) + "\" role=\"img\" aria-label=\"" + title +
                      "\">\n" + text_at(kLeft, 18, "chart-title", title);
    if (xs_.empty()) {
      return svg + text_at(kLeft, chart_.height / 2.0, "chart-label", "no data") + "</svg>\n";
    }
    const Mapping x(chart_.x, xs_, false, kLeft, chart_.width - kRight);
    const Mapping y(chart_.y, ys_, true, chart_.height - kBottom, kTop);
    svg += paint_axes(x, y);
    for (std::size_t i = 0; i < series_.size(); ++i) svg += paint_series(i, x, y);
    if (series_.size() > 1) svg += paint_names(x, y);
    return svg + "</svg>\n";
  }

 private:
  std::string paint_axes(const Mapping& x, const Mapping& y) const {
    const double right = chart_.width - kRight;
    const double bottom = chart_.height - kBottom;
    std::string svg;
    for (const double tick : y.ticks()) {
      const double at = y.place(tick);
      svg += line(kLeft, at, right, at, at > bottom - 1 ? "chart-axis" : "chart-grid");
      svg += text_at(kLeft - 8, at + 4, "chart-tick chart-end", text_of(chart_.y, tick));
    }
    svg += line(kLeft, bottom, right, bottom, "chart-axis");
    double last = -kTickWidth;
    for (const double tick : x.ticks()) {
      const double at = x.place(tick);
      if (at - last < kTickWidth) continue;
      last = at;
      svg += line(at, bottom, at, bottom + 4, "chart-axis");
      svg += text_at(at, bottom + 18, "chart-tick chart-middle", text_of(chart_.x, tick));
    }
    svg += text_at((kLeft + right) / 2, chart_.height - 8.0, "chart-label chart-middle",
                   escape_markup(chart_.x.label));
    return svg + text_at(8, kTop - 10, "chart-label", escape_markup(chart_.y.label));
  }

  /// The class that gives series `index` its colour. Steps use the whole range of the palette.
  [[nodiscard]] std::string colour(std::size_t index) const {
    if (chart_.palette == Palette::kCategories) return "chart-c" + std::to_string(index);
    const std::size_t last = std::max<std::size_t>(series_.size() - 1, 1);
    return "chart-s" +
           std::to_string(series_.size() == 1 ? kSeriesMax - 1 : index * (kSeriesMax - 1) / last);
  }

  std::string paint_series(std::size_t index, const Mapping& x, const Mapping& y) const {
    const Series& series = series_[index];
    if (series.points.empty()) return "";
    std::string places;
    for (const ChartPoint& point : series.points) {
      places +=
          (places.empty() ? "" : " ") + number(x.place(point.x)) + "," + number(y.place(point.y));
    }
    std::string svg = "<g class=\"" + colour(index) + "\">\n";
    if (series.points.size() > 1) svg += "<polyline points=\"" + places + "\"/>\n";
    for (const ChartPoint& point : series.points) {
      if (!chart_.markers && point.tooltip.empty()) continue;
      const std::string title =
          point.tooltip.empty() ? "" : "<title>" + escape_markup(point.tooltip) + "</title>";
      svg += element("circle",
                     "cx=\"" + number(x.place(point.x)) + "\" cy=\"" + number(y.place(point.y)) +
                         "\" r=\"" + (chart_.markers ? "4" : "6") + "\"" +
                         (chart_.markers ? "" : " class=\"chart-unseen\""),
                     title);
    }
    return svg + "</g>\n";
  }

  /// Each line's name at its right end, moved apart where lines end together.
  std::string paint_names(const Mapping& x, const Mapping& y) const {
    struct Name {
      std::size_t index;
      double x;
      double y;
    };
    std::vector<Name> names;
    for (std::size_t i = 0; i < series_.size(); ++i) {
      if (series_[i].points.empty()) continue;
      const ChartPoint& last = series_[i].points.back();
      names.push_back({i, x.place(last.x), y.place(last.y)});
    }
    std::sort(names.begin(), names.end(), [](const Name& a, const Name& b) { return a.y < b.y; });
    double free_from = kTop - kLabelHeight;
    for (Name& name : names) free_from = name.y = std::max(name.y, free_from + kLabelHeight);
    double free_to = chart_.height - kBottom + kLabelHeight;
    for (auto name = names.rbegin(); name != names.rend(); ++name) {
      free_to = name->y = std::min(name->y, free_to - kLabelHeight);
    }
    std::string svg;
    const double at = chart_.width - kRight;
    for (const Name& name : names) {
      svg += "<g class=\"" + colour(name.index) + "\">" +
             line(at + 6, name.y, at + 14, name.y, "chart-key") + "</g>" +
             text_at(at + 18, name.y + 4, "chart-name", escape_markup(series_[name.index].name));
    }
    return svg;
  }

  const Chart& chart_;
  std::vector<Series> series_;  // the series that can be drawn
  std::set<double> xs_;
  std::set<double> ys_;
};

/// "--c0: #...;" for every colour.
template <std::size_t kCount>
std::string properties(char prefix, const char* const (&colours)[kCount]) {
  std::string text;
  for (std::size_t i = 0; i < kCount; ++i) {
    text += std::string("--") + prefix + std::to_string(i) + ":" + colours[i] + ";";
  }
  return text;
}

// Kinds keep apart for colour-blind eyes too; steps go from near the page's colour to far from it.
constexpr const char* kKindsOnLight[kSeriesMax] = {"#2a78d6", "#eb6834", "#1baf7a", "#4a3aa7",
                                                   "#eda100", "#e34948", "#008300", "#e87ba4"};
constexpr const char* kKindsOnDark[kSeriesMax] = {"#3987e5", "#d95926", "#199e70", "#9085e9",
                                                  "#c98500", "#e66767", "#3a9d3a", "#d55181"};
constexpr const char* kStepsOnLight[kSeriesMax] = {"#86b6ef", "#6aa5ea", "#4c92e2", "#2f7fda",
                                                   "#236dc0", "#1b5ba3", "#134884", "#0b3564"};
constexpr const char* kStepsOnDark[kSeriesMax] = {"#2a63a6", "#3373bb", "#3d84d0", "#5295e0",
                                                  "#6fa8e9", "#8cbbf0", "#aacdf5", "#c9e0fa"};

}  // namespace

std::string render_svg(const Chart& chart) { return Painter(chart).paint(); }

std::string chart_style() {
  std::string style = ":root{--surface:#fcfcfb;--ink:#1a1a19;--quiet:#5f5e58;--grid:#e6e5e0;" +
                      properties('c', kKindsOnLight) + properties('s', kStepsOnLight) + "}\n";
  style +=
      "@media (prefers-color-scheme:dark){:root{--surface:#1a1a19;--ink:#f2f1ec;"
      "--quiet:#b3b2aa;--grid:#33332f;" +
      properties('c', kKindsOnDark) + properties('s', kStepsOnDark) + "}}\n";
  style +=
      ".chart{width:100%;height:auto;font:12px system-ui,sans-serif}\n"
      ".chart text{fill:var(--quiet)}.chart .chart-title{fill:var(--ink);font-size:14px;"
      "font-weight:600}.chart .chart-name{fill:var(--ink);font-size:11px}\n"
      ".chart-end{text-anchor:end}.chart-middle{text-anchor:middle}\n"
      ".chart-grid{stroke:var(--grid)}.chart-axis{stroke:var(--quiet)}\n"
      ".chart polyline{fill:none;stroke:var(--colour);stroke-width:2;stroke-linejoin:round}\n"
      ".chart circle{fill:var(--colour);stroke:var(--surface);stroke-width:1.5}\n"
      ".chart .chart-key{stroke:var(--colour);stroke-width:3}\n"
      ".chart .chart-unseen{fill:transparent;stroke:none}\n";
  for (std::size_t i = 0; i < kSeriesMax; ++i) {
    const std::string n = std::to_string(i);
    style += ".chart-c" + n + "{--colour:var(--c" + n + ")}.chart-s" + n + "{--colour:var(--s" + n +
             ")}\n";
  }
  return style;
}

std::string escape_markup(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&': escaped += "&amp;"; break;
      case '<': escaped += "&lt;"; break;
      case '>': escaped += "&gt;"; break;
      case '"': escaped += "&quot;"; break;
      case '\'': escaped += "&#39;"; break;
      default: escaped += static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' ? ' ' : c;
    }
  }
  return escaped;
}

}  // namespace strata::tool
