#include "strata/aio/io_uring_support.h"

#include <liburing.h>

#include <memory>
#include <utility>

namespace strata::aio {
namespace {

struct FreeProbe {
  void operator()(io_uring_probe* probe) const { io_uring_free_probe(probe); }
};

constexpr std::pair<int, const char*> kRequests[] = {
    {IORING_OP_NOP, "IORING_OP_NOP"},
    {IORING_OP_READ, "IORING_OP_READ"},
    {IORING_OP_WRITE, "IORING_OP_WRITE"},
    {IORING_OP_READ_FIXED, "IORING_OP_READ_FIXED"},
    {IORING_OP_WRITE_FIXED, "IORING_OP_WRITE_FIXED"},
};

}  // namespace

IoUringSupport io_uring_support() {
  IoUringSupport support;
  io_uring ring{};
  io_uring_params parameters{};
  const int result = io_uring_queue_init_params(1, &ring, &parameters);
  if (result < 0) {
    support.refusal = -result;
    return support;
  }
  if ((parameters.features & IORING_FEAT_EXT_ARG) == 0) {
    support.missing.emplace_back("IORING_FEAT_EXT_ARG");
  }
  // A kernel without the probe itself (before 5.6) knows none of the requests for certain.
  const std::unique_ptr<io_uring_probe, FreeProbe> probe(io_uring_get_probe_ring(&ring));
  for (const auto& [code, name] : kRequests) {
    if (probe == nullptr || io_uring_opcode_supported(probe.get(), code) == 0) {
      support.missing.emplace_back(name);
    }
  }
  io_uring_queue_exit(&ring);
  return support;
}

}  // namespace strata::aio
