#include "disk_time.h"

#include <algorithm>
#include <limits>

namespace strata::bench {
namespace {

double seconds_for(double bytes, double bytes_per_second) {
  if (bytes <= 0) return 0;
  if (bytes_per_second <= 0) return std::numeric_limits<double>::infinity();
  return bytes / bytes_per_second;
}

double per_second(const DirectionResult& direction, double seconds) {
  return seconds > 0 ? static_cast<double>(direction.bytes) / seconds : 0;
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

double read_speed(const PointResult& result) { return per_second(result.read, result.seconds); }
double write_speed(const PointResult& result) { return per_second(result.write, result.seconds); }

}  // namespace strata::bench
