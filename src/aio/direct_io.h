#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace strata::aio {

/// Switches O_DIRECT on for an empty, writable `fd` and finds the alignment that it asks of
/// offsets, lengths and addresses: a power of two, at least 512. Returns nullopt, with `fd` left
/// buffered and empty, where the file system does not do direct transfers.
/// Throws IoError when the trial transfer fails for another reason than alignment.
[[nodiscard]] std::optional<std::uint32_t> enable_direct_io(int fd,
                                                            const std::filesystem::path& path);

}  // namespace strata::aio
