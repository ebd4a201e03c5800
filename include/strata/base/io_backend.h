#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

/// \file
/// The I/O backend that carries requests to the disks, under its name in configs, command lines
/// and messages.

namespace strata {

enum class IoBackend : std::uint8_t {
  kAuto,     ///< the first of the next three that moves bytes on this machine
  kIoUring,  ///< io_uring through liburing
  kLibaio,   ///< Linux AIO through libaio
  kThreads,  ///< threads that pread and pwrite
  kNull,     ///< moves nothing and reports success, to measure the layers above it
};

inline constexpr std::array<std::string_view, 5> kIoBackendNames = {"auto", "io_uring", "libaio",
                                                                    "threads", "null"};

[[nodiscard]] constexpr std::string_view name_of(IoBackend backend) {
  return kIoBackendNames[static_cast<std::size_t>(backend)];
}

/// The backend of that name; none where there is no such name.
[[nodiscard]] constexpr std::optional<IoBackend> io_backend_named(std::string_view name) {
  for (std::size_t i = 0; i < kIoBackendNames.size(); ++i) {
    if (kIoBackendNames[i] == name) return static_cast<IoBackend>(i);
  }
  return std::nullopt;
}

}  // namespace strata
