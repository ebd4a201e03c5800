#include "aio/engine_parts.h"

#include <cerrno>
#include <cstdint>
#include <utility>

#include "aio/transfer_failure.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::aio {
namespace {

void require(bool valid, const std::string& rule) {
  if (!valid) throw ConfigError("I/O options: " + rule);
}

}  // namespace

const IoQueueOptions& checked(const IoQueueOptions& options) {
  require(options.block_bytes >= 4_KiB && options.block_bytes <= 1_GiB &&
              options.block_bytes % 4_KiB == 0,
          "block_bytes is " + std::to_string(options.block_bytes) +
              "; use a multiple of 4096 up to 1 GiB");
  require(options.depth >= 1 && options.depth <= 4096,
          "depth is " + std::to_string(options.depth) + "; use 1 to 4096");
  require(options.threads >= 1 && options.threads <= 256,
          "threads is " + std::to_string(options.threads) + "; use 1 to 256");
  require(options.operations_max >= 1 && options.operations_max <= 65536,
          "operations_max is " + std::to_string(options.operations_max) + "; use 1 to 65536");
  require(options.warn_after.count() > 0 && options.fail_after >= options.warn_after,
          "the times must satisfy 0 < warn_after <= fail_after; they are " +
              std::to_string(options.warn_after.count()) + " ms and " +
              std::to_string(options.fail_after.count()) + " ms");
  require(options.clock != nullptr, "there is no clock; leave the one that is there");
  return options;
}

EngineParts::EngineParts(const IoQueueOptions& wanted, ChosenBackend chosen, Logger& log)
    : options(checked(wanted)),
      description(std::move(chosen.description)),
      backend(std::move(chosen.backend)),
      states(std::make_unique<detail::OperationState[]>(options.operations_max)),
      lost(std::make_shared<LostMemory>()),
      driver(options, *backend, *lost, log) {
  finished.reserve(options.operations_max);
  for (std::uint32_t i = 0; i < options.operations_max; ++i) free.push_back(states[i]);
}

ChosenBackend chosen_by_caller(std::unique_ptr<Backend> backend) {
  std::string description(backend->name());
  return {.backend = std::move(backend), .description = std::move(description)};
}

void throw_no_room(std::uint32_t operations_max) {
  throw IoError("no room for an I/O operation: all " + std::to_string(operations_max) +
                    " places are held by operations that failed, or whose outcomes nobody took; "
                    "wait on their tickets, which say why, and submit again",
                EBUSY);
}

void check_operation(const Operation& operation) {
  const IoFile& file = *operation.file;
  const auto address = reinterpret_cast<std::uintptr_t>(operation.buffer.data());
  const std::uint64_t bytes = operation.buffer.size();
  if (bytes == 0 || (operation.offset | bytes | address) % file.alignment() != 0) {
    throw UsageError(describe_transfer(operation, operation.offset, bytes) + ", address " +
                     std::to_string(address) + ": each must be a multiple of " +
                     std::to_string(file.alignment()) + " and the length not zero");
  }
  if (bytes > file.size() || operation.offset > file.size() - bytes) {
    throw UsageError(describe_transfer(operation, operation.offset, bytes) +
                     ": beyond the file's " + std::to_string(file.size()) +
                     " bytes; preallocate it first");
  }
}

}  // namespace strata::aio
