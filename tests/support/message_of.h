#pragma once

#include <string>

namespace strata::support {

/// What `message_of` returns when its action throws nothing.
inline constexpr const char* kNothingThrown = "nothing was thrown";

/// The message of the `Exception` that `action` throws; kNothingThrown when it throws none. Other
/// exceptions pass.
template <class Exception, class Action>
[[nodiscard]] std::string message_of(Action&& action) {
  try {
    action();
  } catch (const Exception& error) {
    return error.what();
  }
  return kNothingThrown;
}

}  // namespace strata::support
