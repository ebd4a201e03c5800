#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "aio/driver.h"
#include "aio/operation_state.h"
#include "aio/probe.h"
#include "strata/aio/backend.h"
#include "strata/aio/io_queue.h"
#include "strata/aio/lost_memory.h"
#include "strata/base/log.h"

namespace strata::aio {

/// The parts that IoQueue and IoChannel share: a backend, a driver over it, and a place for every
/// operation that may be unfinished. All memory is taken here.
struct EngineParts {
  /// Throws what `checked` throws.
  EngineParts(const IoQueueOptions& wanted, ChosenBackend chosen, Logger& log);

  const IoQueueOptions options;
  const std::string description;
  std::unique_ptr<Backend> backend;
  const std::unique_ptr<detail::OperationState[]> states;
  detail::OperationList free;              // places without an operation
  const std::shared_ptr<LostMemory> lost;  // shared with the owners of the memory
  Driver driver;
  std::vector<detail::OperationState*> finished;  // taken from the driver in one turn
};

/// `options` as they are. Throws ConfigError when one is out of range.
[[nodiscard]] const IoQueueOptions& checked(const IoQueueOptions& options);

/// A backend from the caller, described by its own name.
[[nodiscard]] ChosenBackend chosen_by_caller(std::unique_ptr<Backend> backend);

/// Throws the IoError (EBUSY) of a wait for room that would not end.
[[noreturn]] void throw_no_room(std::uint32_t operations_max);

/// Throws the UsageError of an operation that is misaligned, empty or beyond its file.
void check_operation(const Operation& operation);

}  // namespace strata::aio
