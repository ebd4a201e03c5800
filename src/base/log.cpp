#include "strata/base/log.h"

#include <iostream>

namespace strata {
namespace {

std::string_view prefix_of(LogLevel level) {
  switch (level) {
    case LogLevel::kInfo: return "";
    case LogLevel::kWarning: return "warning: ";
    case LogLevel::kError: return "error: ";
  }
  return "";
}

}  // namespace

Logger::Logger() : out_(&std::cerr) {}

void Logger::set_level(LogLevel level) {
  const std::lock_guard lock(mutex_);
  level_ = level;
}

void Logger::write(LogLevel level, std::string_view message) {
  const std::lock_guard lock(mutex_);
  if (level < level_) return;
  *out_ << prefix_of(level) << message << '\n' << std::flush;
}

}  // namespace strata
