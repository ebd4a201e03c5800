#pragma once

#include <iosfwd>
#include <mutex>
#include <string_view>

namespace strata {

enum class LogLevel { kInfo, kWarning, kError };

/// Writes one line per message to a stream (stderr unless told otherwise), never mixing two lines.
/// Results belong on stdout; what the program says about itself goes through here.
/// Thread-safe. Passed by reference; the owner outlives everything that logs.
class Logger {
 public:
  Logger();
  explicit Logger(std::ostream& out) : out_(&out) {}

  /// Messages below `level` are dropped. Default: everything is written.
  void set_level(LogLevel level);

  void info(std::string_view message) { write(LogLevel::kInfo, message); }
  void warning(std::string_view message) { write(LogLevel::kWarning, message); }
  void error(std::string_view message) { write(LogLevel::kError, message); }

 private:
  void write(LogLevel level, std::string_view message);

  std::mutex mutex_;
  std::ostream* out_;
  LogLevel level_ = LogLevel::kInfo;
};

}  // namespace strata
