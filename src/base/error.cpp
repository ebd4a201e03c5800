#include "strata/base/error.h"

#include <cstring>
#include <system_error>

namespace strata {

std::string errno_name(int code) {
  const char* name = strerrorname_np(code);
  return name != nullptr ? name : "errno " + std::to_string(code);
}

IoError system_error(std::string_view action, std::string_view path, int code,
                     std::string_view hint) {
  std::string message(action);
  message.append(" ").append(path).append(": ");
  message.append(std::generic_category().message(code));
  message.append(" (").append(errno_name(code)).append(")");
  if (!hint.empty()) message.append("; ").append(hint);
  return {message, code};
}

namespace detail {

void fail_check(const char* condition, const char* file, int line, const std::string& values) {
  std::string message(file);
  message.append(":").append(std::to_string(line));
  message.append(": check failed: ").append(condition);
  if (!values.empty()) message.append(" (").append(values).append(")");
  throw std::logic_error(message);
}

}  // namespace detail
}  // namespace strata
