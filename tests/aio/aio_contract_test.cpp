#include "contract/aio_contract.h"

namespace strata::aio {
namespace {

const std::filesystem::path kDisk = std::filesystem::current_path();
const std::filesystem::path kMemory = "/dev/shm";

INSTANTIATE_TEST_SUITE_P(
    Engines, AioContract,
    testing::Values(AioCase{"io_uring_on_disk", BackendKind::kIoUring, kDisk},
                    AioCase{"io_uring_on_tmpfs", BackendKind::kIoUring, kMemory},
                    AioCase{"libaio_on_disk", BackendKind::kLibaio, kDisk},
                    AioCase{"libaio_on_tmpfs", BackendKind::kLibaio, kMemory},
                    AioCase{"threads_on_disk", BackendKind::kThreads, kDisk},
                    AioCase{"threads_on_tmpfs", BackendKind::kThreads, kMemory}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace strata::aio
