#include "strata/zero3/join.h"

#include <ATen/Parallel.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "strata/base/error.h"
#include "zero3/ranks/agreement.h"
#include "zero3/ranks/c10d_messenger.h"
#include "zero3/ranks/gloo_group.h"
#include "zero3/ranks/host_share.h"
#include "zero3/ranks/message_ranks.h"
#include "zero3/ranks/one_rank.h"

namespace strata {
namespace {

using Clock = std::chrono::steady_clock;
using StorePointer = c10::intrusive_ptr<c10d::Store>;
using std::chrono::milliseconds;
using zero3::C10dMessenger;
using zero3::MessageRanks;

/// This rank on its way to the others.
struct Arrival {
  int rank, size;
  StorePointer store;
  std::string place;  ///< of the store, for messages
  Clock::time_point until;

  [[nodiscard]] milliseconds left() const {
    return std::max(std::chrono::duration_cast<milliseconds>(until - Clock::now()),
                    milliseconds(1));
  }
  [[nodiscard]] std::string name() const { return "rank " + std::to_string(rank); }
  [[nodiscard]] std::string key(const char* what, int of) const {
    return std::string(what) + "/" + std::to_string(of);
  }
};

/// The first line of what c10d says: the others are its stack.
std::string first_line_of(const std::exception& error) {
  const std::string text = error.what();
  return text.substr(0, text.find('\n'));
}

/// Calls what talks to other processes through c10d; its errors become IoError.
template <class Call>
decltype(auto) through_c10d(const Arrival& arrival, const std::string& what, const Call& call) {
  try {
    return call();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw IoError(
        arrival.name() + " could not " + what + " (" + arrival.place +
            "): " + first_line_of(error) +
            "; look for the errors of other ranks, and whether MASTER_ADDR and MASTER_PORT "
            "name a free port of the host of rank 0 that all reach",
        0);
  }
}

/// Lets all ranks come; none has connected yet. Refuses a rank that is there twice, and worlds of
/// other sizes.
void meet(const Arrival& arrival) {
  const std::string size = std::to_string(arrival.size);
  if (arrival.store->add(arrival.key("come", arrival.rank), 1) > 1) {
    throw ConfigError(arrival.name() + " has joined at " + arrival.place +
                      " before: two processes have the same rank, another run uses this port, or "
                      "this process joins twice; join once, and use it for all engines");
  }
  arrival.store->set(arrival.key("size", arrival.rank), size);
  std::string missing;
  for (int other = 0; other < arrival.size; ++other) {
    try {
      arrival.store->wait({arrival.key("size", other)}, arrival.left());
    } catch (const std::exception&) {
      if (!arrival.store->check({arrival.key("size", other)})) {
        missing.append(missing.empty() ? "" : ", ").append(std::to_string(other));
      }
      continue;
    }
    const std::string of_other = arrival.store->get_to_str(arrival.key("size", other));
    if (of_other == size) continue;
    throw ConfigError("the ranks do not agree on the size of their world: rank " +
                      std::to_string(other) + " is of " + of_other + " ranks, " + arrival.name() +
                      " of " + size);
  }
  if (missing.empty()) return;
  throw DeadlineExceeded(arrival.name() + " waited for all ranks at " + arrival.place + ": of " +
                             size + ", these have not come: " + missing +
                             "; look for their errors, or raise JoinOptions::start",
                         ETIMEDOUT);
}

std::shared_ptr<zero3::Ranks> connect(const Arrival& arrival,
                                      c10::intrusive_ptr<c10d::Backend> data,
                                      const JoinOptions& options) {
  const auto gloo = [&](const char* name) {
    return through_c10d(arrival, "connect to the other ranks", [&] {
      return zero3::connect_by_gloo(c10::make_intrusive<c10d::PrefixStore>(name, arrival.store),
                                    arrival.rank, arrival.size, arrival.left());
    });
  };
  if (data == nullptr) data = gloo("data");
  auto control = gloo("control");
  auto ranks = std::make_shared<MessageRanks>(
      MessageRanks::Options{arrival.rank, arrival.size, options.wait, options.silence},
      std::make_unique<C10dMessenger>(std::move(data)),
      std::make_unique<C10dMessenger>(std::move(control)));
  // Also keeps the store, whose host is rank 0, until all have connected.
  require_agreement(*ranks, "the version", {{"Strata", STRATA_VERSION}});
  if (std::getenv("OMP_NUM_THREADS") == nullptr) {
    at::set_num_threads(zero3::host_share(*ranks).threads);
  }
  return ranks;
}

}  // namespace

std::shared_ptr<zero3::Ranks> join(const World& world, const JoinOptions& options) {
  if (world.size == 1) return std::make_shared<zero3::OneRank>();
  Arrival arrival{.rank = world.rank,
                  .size = world.size,
                  .store = nullptr,
                  .place = world.address + ":" + std::to_string(world.port),
                  .until = Clock::now() + options.start};
  through_c10d(arrival, "reach the place where all ranks meet", [&] {
    arrival.store = c10::make_intrusive<c10d::PrefixStore>(
        "strata/" + std::to_string(world.restarts),
        c10::make_intrusive<c10d::TCPStore>(
            world.address,
            c10d::TCPStoreOptions{.port = world.port,
                                  .isServer = world.rank == 0 && !world.launcher_keeps_store,
                                  .waitWorkers = false,
                                  .timeout = options.start}));
    meet(arrival);
  });
  return connect(arrival, nullptr, options);
}

std::shared_ptr<zero3::Ranks> join(const c10::intrusive_ptr<c10d::ProcessGroup>& group,
                                   const JoinOptions& options) {
  if (group == nullptr || group->getStore() == nullptr) {
    throw UsageError("join: the process group has no store, which ranks need to find one another");
  }
  if (group->getSize() == 1) return std::make_shared<zero3::OneRank>();
  Arrival arrival{.rank = group->getRank(),
                  .size = group->getSize(),
                  .store = c10::make_intrusive<c10d::PrefixStore>("strata", group->getStore()),
                  .place = "the store of the process group",
                  .until = Clock::now() + options.start};
  c10::intrusive_ptr<c10d::Backend> data;
  try {
    data = group->getBackend(c10::DeviceType::CPU);
  } catch (const std::exception& error) {
    throw UsageError(
        "join: the process group has no backend for CPU tensors, and ranks exchange "
        "host memory: " +
        first_line_of(error));
  }
  through_c10d(arrival, "meet the other ranks", [&] { meet(arrival); });
  return connect(arrival, std::move(data), options);
}

}  // namespace strata
