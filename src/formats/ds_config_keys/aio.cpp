#include "formats/ds_config_keys/rules.h"
#include "formats/ds_config_keys/sections.h"

namespace strata::formats {
namespace {

using C = DsConfig;

constexpr ConfigKey kAioKeys[] = {
    key("aio.block_size", IntegerField{.field = at<&C::aio, &AioConfig::block_bytes>,
                                       .min = 4096,
                                       .max = 1 << 30,
                                       .multiple_of = 4096})
        .or_auto(),
    key("aio.queue_depth", whole(at<&C::aio, &AioConfig::queue_depth>, 1, 4096)).or_auto(),
    key("aio.intra_op_parallelism", whole(at<&C::aio, &AioConfig::threads>, 1, 1024)).or_auto(),
    key("aio.thread_count", whole(at<&C::aio, &AioConfig::threads>, 1, 1024))
        .or_auto()
        .older_name_of("aio.intra_op_parallelism"),
    key("aio.num_threads", whole(at<&C::aio, &AioConfig::threads>, 1, 1024))
        .or_auto()
        .older_name_of("aio.intra_op_parallelism"),
    unused("aio.single_submit", kBoolean),
    unused("aio.overlap_events", kBoolean),
    unused("aio.use_gds", kBoolean),
};

}  // namespace

std::span<const ConfigKey> aio_keys() { return kAioKeys; }

}  // namespace strata::formats
