#include "contract/aio_contract.h"
#include "support/simulated_disk.h"

#include <utility>

namespace strata::aio::aio_contract_test {
namespace {

class Directory final : public Environment {
 public:
  explicit Directory(std::filesystem::path path) : path_(std::move(path)) {}
  [[nodiscard]] std::filesystem::path directory() const override { return path_; }

 private:
  std::filesystem::path path_;
};

EnvironmentPtr on_disk() { return std::make_unique<Directory>(std::filesystem::current_path()); }

EnvironmentPtr in_memory() { return std::make_unique<Directory>("/dev/shm"); }

std::vector<AioCase> all_cases() {
  const std::pair<const char*, IoBackend> engines[] = {{"io_uring", IoBackend::kIoUring},
                                                       {"libaio", IoBackend::kLibaio},
                                                       {"threads", IoBackend::kThreads}};
  const std::pair<const char*, std::function<EnvironmentPtr()>> environments[] = {
      {"on_disk", on_disk},
      {"on_tmpfs", in_memory},
      {"on_overlay", mount_overlay},
      {"on_blocks_of_4096", [] { return mount_ext4(4096); }}};
  std::vector<AioCase> cases;
  for (const auto& [engine, kind] : engines) {
    for (const auto& [environment, make] : environments) {
      cases.push_back({std::string(engine) + "_" + environment, kind, make});
    }
  }
  // Where io_uring may be refused at any time: the limit is shared by all processes of a user.
  cases.push_back({"auto_with_little_lockable_memory", IoBackend::kAuto, limit_lockable_memory});
  cases.push_back({"sim_on_disk", IoBackend::kAuto, on_disk,
                   [] { return make_simulated_backend({.seed = 4, .depth = 8}); }});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Engines, AioContract, testing::ValuesIn(all_cases()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace strata::aio::aio_contract_test
