#include "contract/backend_law.h"
#include "support/simulated_disk.h"

namespace strata::aio::backend_law_test {
namespace {

std::unique_ptr<Backend> make_threads(std::uint32_t depth) {
  return make_threads_backend(depth, 3);
}
std::unique_ptr<Backend> make_sim(std::uint32_t depth) {
  return make_simulated_backend({.seed = 3, .depth = depth});
}

std::string name_of(const testing::TestParamInfo<BackendCase>& test) { return test.param.name; }

const std::vector<BackendCase> kMovers = {{"io_uring", make_io_uring_backend},
                                          {"libaio", make_libaio_backend},
                                          {"threads", make_threads},
                                          {"sim", make_sim}};

INSTANTIATE_TEST_SUITE_P(Engines, BackendLaw, testing::ValuesIn(kMovers), name_of);
INSTANTIATE_TEST_SUITE_P(NullEngine, BackendLaw,
                         testing::Values(BackendCase{"null", make_null_backend}), name_of);
INSTANTIATE_TEST_SUITE_P(Engines, BackendTransfers, testing::ValuesIn(kMovers), name_of);

}  // namespace
}  // namespace strata::aio::backend_law_test
