#pragma once

#include "strata/aio/io_queue.h"
#include "strata/formats/ds_config.h"

namespace strata::zero3 {

/// The I/O queue that a config asks for: an engine's, and that of a measurement for it. The NUMA
/// node is left to whoever knows the disks.
[[nodiscard]] aio::IoQueueOptions queue_options(const formats::DsConfig& config);

}  // namespace strata::zero3
