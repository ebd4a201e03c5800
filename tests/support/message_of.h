#pragma once

#include <optional>
#include <string>

namespace strata::support {

/// What `message_of` returns when its action throws nothing.
inline constexpr const char* kNothingThrown = "nothing was thrown";

/// The `Exception` that `action` throws, for what it holds besides its message; nullopt when it
/// throws none. Other exceptions pass.
template <class Exception, class Action>
[[nodiscard]] std::optional<Exception> caught(Action&& action) {
  try {
    action();
  } catch (const Exception& error) {
    return error;
  }
  return std::nullopt;
}

/// The message of the `Exception` that `action` throws; kNothingThrown when it throws none. Other
/// exceptions pass.
template <class Exception, class Action>
[[nodiscard]] std::string message_of(Action&& action) {
  const std::optional<Exception> error = caught<Exception>(action);
  return error ? error->what() : kNothingThrown;
}

}  // namespace strata::support
