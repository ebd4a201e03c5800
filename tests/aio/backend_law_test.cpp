#include "contract/backend_law.h"

namespace strata::aio {
namespace {

std::unique_ptr<Backend> make_threads(std::uint32_t depth) {
  return make_threads_backend(depth, 3);
}
std::unique_ptr<Backend> make_sim(std::uint32_t depth) {
  return make_sim_backend({.seed = 3, .depth = depth});
}

INSTANTIATE_TEST_SUITE_P(Engines, BackendLaw,
                         testing::Values(BackendCase{"io_uring", make_io_uring_backend},
                                         BackendCase{"libaio", make_libaio_backend},
                                         BackendCase{"threads", make_threads},
                                         BackendCase{"sim", make_sim},
                                         BackendCase{"null", make_null_backend, false}),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace strata::aio
