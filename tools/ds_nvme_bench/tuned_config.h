#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "search_space.h"
#include "strata/formats/ds_config.h"

/// \file
/// The chosen setting as the section "aio" of a DeepSpeed config, which Strata reads too.

namespace strata::nvme_bench {

/// The setting in the config's terms. A kernel engine has `depth` requests in each thread's queue,
/// as DeepSpeed's threads have; the threads engine has a thread for each request in flight.
[[nodiscard]] formats::AioConfig aio_config(const Setting& setting);

/// The sections to paste into a config:
///   {"aio": {"block_size": ..., "queue_depth": ..., "intra_op_parallelism": ...,
///            "single_submit": false, "overlap_events": true},
///    "strata": {"io": "io_uring"}}
[[nodiscard]] std::string config_sections(const Setting& setting);

/// `text`, a config, with the setting's values in it. The rest of it stays as it is written,
/// byte for byte; older names of the keys (thread_count, num_threads) make way for the current one,
/// since both at once are refused. `name` is for messages.
/// Throws ConfigError when Strata's parser refuses `text`; its other meaning is the same before and
/// after, which is checked.
[[nodiscard]] std::string with_setting(std::string_view text, const std::string& name,
                                       const Setting& setting);

/// Finds out whether `write_setting` would work, as far as that can be known before. Throws what it
/// throws.
void check_config(const std::filesystem::path& path);

/// Writes the setting into the config at `path`, or makes one that has only these sections. A new
/// file takes the old one's place in one step, with its owner, group and permissions; a symbolic
/// link keeps pointing to it. Throws ConfigError as `with_setting` does, IoError (also when the
/// owner cannot be kept); then the file is as it was.
void write_setting(const std::filesystem::path& path, const Setting& setting);

}  // namespace strata::nvme_bench
