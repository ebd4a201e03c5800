#include "strata/zero3/queue_options.h"

#include <cstdint>

namespace strata::zero3 {

namespace {

// Operations in flight are bounded by slots and windows, times the directories they are striped
// over.
constexpr std::uint32_t kOperationsMax = 1024;

}  // namespace

aio::IoQueueOptions queue_options(const formats::DsConfig& config) {
  aio::IoQueueOptions options;
  options.backend = config.strata.io;
  options.block_bytes = static_cast<std::uint32_t>(config.aio.block_bytes);
  options.depth = static_cast<std::uint32_t>(config.aio.queue_depth);
  options.threads = static_cast<std::uint32_t>(config.aio.threads);
  options.operations_max = kOperationsMax;
  return options;
}

}  // namespace strata::zero3
