#include "disk_time.h"

#include <algorithm>
#include <limits>

namespace strata::nvme_bench {
namespace {

double seconds_for(double bytes, double bytes_per_second) {
  if (bytes <= 0) return 0;
  if (bytes_per_second <= 0) return std::numeric_limits<double>::infinity();
  return bytes / bytes_per_second;
}

double per_second(const DirectionResult& direction, double seconds) {
  return seconds > 0 ? static_cast<double>(direction.bytes) / seconds : 0;
}

// Bytes that the optimizer's pass reads for a byte that it writes.
constexpr double kReadPerWritten =
    static_cast<double>(kTrainBytesRead - 2 * kTrainWeightBytes) / kTrainBytesWritten;

/// Bytes read of the weights, before the optimizer's pass.
double weights_read(double read, double written) { return read - kReadPerWritten * written; }

/// Time for a byte of the weights, and for a byte that the optimizer writes with what it reads.
struct PassCosts {  // in any unit; unless known better, all bytes cost the same
  double weights = 1;
  double optimizer = 1 + kReadPerWritten;
};

/// Fits by least squares over the windows, which have the passes in different proportions.
PassCosts pass_costs(const std::vector<Window>& windows) {
  constexpr double kDifferentEnough = 0.05;
  double ww = 0;
  double wo = 0;
  double oo = 0;
  double wt = 0;
  double ot = 0;
  for (const Window& window : windows) {
    const auto optimizer = static_cast<double>(window.bytes_written);
    const double weights = weights_read(static_cast<double>(window.bytes_read), optimizer);
    ww += weights * weights;
    wo += weights * optimizer;
    oo += optimizer * optimizer;
    wt += weights * window.seconds;
    ot += optimizer * window.seconds;
  }
  const double determinant = ww * oo - wo * wo;
  if (!(determinant > kDifferentEnough * ww * oo)) return {};
  const PassCosts costs{.weights = (oo * wt - wo * ot) / determinant,
                        .optimizer = (ww * ot - wo * wt) / determinant};
  // Neither reading nor writing gives time back.
  const bool possible = costs.weights > 0 && costs.optimizer > kReadPerWritten * costs.weights;
  return possible ? costs : PassCosts{};
}

}  // namespace

DiskSpeeds DiskSpeeds::with_overlap(double read, double write, double mu) {
  DiskSpeeds speeds{.read = read, .write = write};
  // Mixing half and half, x bytes each way take x (1 / slower + (1 - mu) / faster).
  const double mixed = 1 / (1 / std::min(read, write) + (1 - mu) / std::max(read, write));
  speeds.mixed_read = speeds.mixed_write = mixed;
  return speeds;
}

double DiskSpeeds::mu() const {
  if (read <= 0 || write <= 0 || mixed_read <= 0 || mixed_write <= 0) return 0;
  // In one second of mixing the disk moved what takes this long in each direction alone.
  const double reading = mixed_read / read;
  const double writing = mixed_write / write;
  const double shorter = std::min(reading, writing);
  const double saved = reading + writing - 1;
  return std::clamp(saved / shorter, 0.0, 1.0);
}

double DiskSpeeds::seconds(const Traffic& traffic) const {
  const double reading = seconds_for(traffic.read_bytes, read);
  const double writing = seconds_for(traffic.written_bytes, write);
  return std::max(reading, writing) + (1 - mu()) * std::min(reading, writing);
}

double seconds_of_train_step(const PointResult& result, double parameters) {
  const auto read = static_cast<double>(result.read.bytes);
  const auto written = static_cast<double>(result.write.bytes);
  if (read <= 0 || written <= 0) return std::numeric_limits<double>::infinity();
  const PassCosts costs = pass_costs(result.windows);
  const double measured = costs.weights * weights_read(read, written) + costs.optimizer * written;
  const double step = costs.weights * 2 * kTrainWeightBytes + costs.optimizer * kTrainBytesWritten;
  return result.seconds * step / measured * parameters;
}

double read_speed(const PointResult& result) { return per_second(result.read, result.seconds); }
double write_speed(const PointResult& result) { return per_second(result.write, result.seconds); }

}  // namespace strata::nvme_bench
