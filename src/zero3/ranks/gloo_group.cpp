#include "zero3/ranks/gloo_group.h"

#ifdef STRATA_WITH_GLOO
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#endif

#include "strata/base/error.h"
#include "zero3/ranks/signals.h"

namespace strata::zero3 {

#ifdef STRATA_WITH_GLOO

c10::intrusive_ptr<c10d::Backend> connect_by_gloo(const c10::intrusive_ptr<c10d::Store>& store,
                                                  int rank, int size,
                                                  std::chrono::milliseconds patience) {
  const NoSigpipeInNewThreads no_sigpipe;
  return c10::make_intrusive<c10d::ProcessGroupGloo>(
      store, rank, size, c10d::ProcessGroupGloo::Options::create_default(patience));
}

#else

c10::intrusive_ptr<c10d::Backend> connect_by_gloo(const c10::intrusive_ptr<c10d::Store>&, int, int,
                                                  std::chrono::milliseconds) {
  throw ConfigError(
      "this Strata was built without Gloo's headers, so that its ranks cannot be processes; "
      "install them (Debian: libgloo-dev) and build it again");
}

#endif

}  // namespace strata::zero3
