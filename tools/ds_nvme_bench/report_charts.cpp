#include "report_html.h"

#include <map>
#include <set>
#include <string>

#include "median.h"
#include "number_text.h"
#include "search_space.h"
#include "strata/base/units.h"

namespace strata::nvme_bench {

using tool::Axis;
using tool::AxisScale;
using tool::Chart;
using tool::ChartPoint;
using tool::kSeriesMax;
using tool::Palette;
using tool::Series;

namespace {

constexpr double kPercent = 99;

/// A setting's medians in one direction.
struct Figure {
  Setting setting;
  double gigabytes_per_second = 0;
  double latency_ms = 0;
};

Setting setting_of(const Point& point) {
  return {point.engine, point.block_bytes, point.depth, point.threads};
}

const DirectionResult& direction_of(const PointResult& point, Workload workload) {
  return workload == Workload::kRead ? point.read : point.write;
}

std::vector<Figure> figures_of(std::span<const PointResult> points, Workload workload) {
  std::map<Setting, std::pair<std::vector<double>, std::vector<double>>> measured;
  for (const PointResult& point : points) {
    const DirectionResult& direction = direction_of(point, workload);
    if (point.point.workload != workload || direction.bytes == 0) continue;
    auto& [speeds, latencies] = measured[setting_of(point.point)];
    speeds.push_back(direction.gigabytes_per_second());
    latencies.push_back(static_cast<double>(direction.latency.percentile(kPercent).count()) / 1e6);
  }
  std::vector<Figure> figures;
  figures.reserve(measured.size());
  for (const auto& [setting, values] : measured) {
    figures.push_back({setting, tool::median(values.first), tool::median(values.second)});
  }
  return figures;
}

std::string tooltip_of(const Figure& figure) {
  return describe(figure.setting) + ": " + fixed(figure.gigabytes_per_second, 2) + " GB/s, p99 " +
         latency_text(figure.latency_ms * 1e6);
}

/// `key(figure)` gives the line, `x(figure)` the place and `y(figure)` the height of a figure; of
/// figures in one place only the fastest is drawn.
template <typename Key, typename X, typename Y, typename Name>
std::vector<Series> series_of(const std::vector<Figure>& figures, Key key, X x, Y y, Name name) {
  std::map<decltype(key(figures.front())), std::map<double, const Figure*>> lines;
  for (const Figure& figure : figures) {
    const Figure*& drawn = lines[key(figure)][x(figure)];
    if (drawn == nullptr || figure.gigabytes_per_second > drawn->gigabytes_per_second) {
      drawn = &figure;
    }
  }
  std::vector<Series> all;
  for (const auto& [line, places] : lines) {
    Series series{name(line), {}};
    for (const auto& [place, figure] : places) {
      series.points.push_back({place, y(*figure), tooltip_of(*figure)});
    }
    all.push_back(std::move(series));
  }
  return all;
}

bool is_worth_drawing(const std::vector<Series>& series) {
  std::set<double> places;
  for (const Series& one : series) {
    for (const ChartPoint& point : one.points) places.insert(point.x);
  }
  return places.size() > 1 && series.size() <= kSeriesMax;
}

std::string block_text(double bytes) { return format_bytes(static_cast<std::uint64_t>(bytes)); }

std::uint64_t block_of(const Figure& figure) { return figure.setting.block_bytes; }
double depth_of(const Figure& figure) { return figure.setting.depth; }
double speed_of(const Figure& figure) { return figure.gigabytes_per_second; }
double latency_of(const Figure& figure) { return figure.latency_ms; }

const Axis kSpeedAxis{.label = "GB/s"};
const Axis kDepthAxis{.label = "depth: requests in flight of a thread",
                      .scale = AxisScale::kLogarithmic,
                      .ticks_at_values = true};

void add_over_depth(std::vector<Chart>& charts, const std::string& subject,
                    const std::vector<Figure>& figures) {
  const auto blocks = [](std::uint64_t bytes) { return format_bytes(bytes); };
  const auto speeds = series_of(figures, block_of, depth_of, speed_of, blocks);
  if (!is_worth_drawing(speeds)) return;
  charts.push_back({.title = subject + " throughput, by block size",
                    .x = kDepthAxis,
                    .y = kSpeedAxis,
                    .palette = Palette::kSteps,
                    .series = speeds});
  charts.push_back({.title = subject + " latency (99th percentile), by block size",
                    .x = kDepthAxis,
                    .y = {.label = "ms", .scale = AxisScale::kLogarithmic},
                    .palette = Palette::kSteps,
                    .series = series_of(figures, block_of, depth_of, latency_of, blocks)});
}

void add_over_block(std::vector<Chart>& charts, const std::string& direction,
                    const std::vector<Figure>& figures) {
  const auto series = series_of(
      figures, [](const Figure& figure) { return figure.setting.engine; },
      [](const Figure& figure) { return static_cast<double>(figure.setting.block_bytes); },
      speed_of, [](IoBackend engine) { return std::string(name_of(engine)); });
  if (!is_worth_drawing(series)) return;
  charts.push_back({.title = direction + ": the most at each block size",
                    .x = {.label = "block size",
                          .scale = AxisScale::kLogarithmic,
                          .text = block_text,
                          .ticks_at_values = true},
                    .y = kSpeedAxis,
                    .series = series});
}

}  // namespace

std::vector<Chart> charts_of(std::span<const PointResult> points) {
  std::vector<Chart> charts;
  for (const auto& [workload, direction] :
       {std::pair(Workload::kRead, "Read"), std::pair(Workload::kWrite, "Write")}) {
    add_over_block(charts, direction, figures_of(points, workload));
  }
  for (const IoBackend engine :
       {IoBackend::kAuto, IoBackend::kIoUring, IoBackend::kLibaio, IoBackend::kThreads}) {
    for (const auto& [workload, direction] :
         {std::pair(Workload::kRead, " read"), std::pair(Workload::kWrite, " write")}) {
      std::vector<Figure> figures = figures_of(points, workload);
      std::erase_if(figures, [&](const Figure& figure) { return figure.setting.engine != engine; });
      add_over_depth(charts, std::string(name_of(engine)) + direction, figures);
    }
  }
  return charts;
}

Chart time_line_of(const PointResult& point) {
  constexpr std::size_t kTooltipEvery = 5;
  Series read{"read", {}};
  Series written{"write", {}};
  double time = 0;
  std::size_t count = 0;
  for (const Window& window : point.windows) {
    time += window.seconds;
    if (window.seconds <= 0) continue;
    const bool with_tooltip = count++ % kTooltipEvery == 0;
    const auto add = [&](Series& series, std::uint64_t bytes) {
      const double speed = static_cast<double>(bytes) / window.seconds / 1e9;
      series.points.push_back(
          {time, speed, with_tooltip ? fixed(time, 1) + " s: " + fixed(speed, 2) + " GB/s" : ""});
    };
    if (point.read.bytes > 0) add(read, window.bytes_read);
    if (point.write.bytes > 0) add(written, window.bytes_written);
  }
  Chart chart{.title = std::string(name_of(point.point.workload)) + " over time, " +
                       describe(setting_of(point.point)),
              .x = {.label = "seconds"},
              .y = kSpeedAxis,
              .series = {},
              .markers = false,
              .width = 1140,
              .height = 260};
  for (Series& series : std::vector{read, written}) {
    if (!series.points.empty()) chart.series.push_back(std::move(series));
  }
  return chart;
}

}  // namespace strata::nvme_bench
