#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "strata/aio/backend.h"
#include "strata/aio/io_queue.h"
#include "strata/base/log.h"

namespace strata::aio {

struct ChosenBackend {
  std::unique_ptr<Backend> backend;
  std::string description;  ///< its name, and why it is not the preferred one
};

/// Makes the backend that `options.backend` names, once it has moved real bytes to and from a
/// scratch file in `directory`. `kAuto` takes the first of io_uring, libaio and threads that does;
/// where files are buffered only, libaio is passed over, since it would make transfers one by one.
/// Throws IoError when the named backend does not work, or `directory` takes no file.
[[nodiscard]] ChosenBackend choose_backend(const IoQueueOptions& options,
                                           const std::filesystem::path& directory, Logger& log);

}  // namespace strata::aio
