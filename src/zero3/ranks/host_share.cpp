#include "zero3/ranks/host_share.h"

#include <sched.h>

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "strata/aio/disk.h"
#include "strata/base/error.h"

namespace strata::zero3 {
namespace {

/// A rank's host and the cores there that it may run on.
struct Seat {
  std::uint64_t host;
  cpu_set_t cores;
};

/// A rank's host and the NUMA node of the cores there; -1: several, or unknown.
struct Neighbourhood {
  std::uint64_t host;
  std::int64_t node;
};

/// A number that the processes of one host agree on.
std::uint64_t number_of_host() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  return std::hash<std::string>()(boot);
}

Seat own_seat() {
  Seat seat{.host = number_of_host(), .cores = {}};
  if (::sched_getaffinity(0, sizeof(seat.cores), &seat.cores) != 0) CPU_ZERO(&seat.cores);
  return seat;
}

/// A directory that cannot be looked at is refused where it is used.
int node_of(const std::string& directory) {
  try {
    return aio::describe_disk(directory).numa_node.value_or(-1);
  } catch (const IoError&) {
    return -1;
  }
}

/// Which of `takers` the next one at `node` goes to: the one that has fewest, then one at the same
/// node, then the first.
std::size_t next_taker(std::span<const int> takers, const std::vector<std::size_t>& counts,
                       int node) {
  const auto comes_before = [&](std::size_t a, std::size_t b) {
    if (counts[a] != counts[b]) return counts[a] < counts[b];
    return node >= 0 && takers[a] == node && takers[b] != node;
  };
  std::size_t best = 0;
  for (std::size_t taker = 1; taker < takers.size(); ++taker) {
    if (comes_before(taker, best)) best = taker;
  }
  return best;
}

}  // namespace

HostShare host_share(Ranks& ranks) {
  const Seat own = own_seat();
  const std::vector<Seat> seats = ranks.gather_values(own);
  HostShare share{.ranks = 1};
  int sharers = 1;  // of this rank's cores, this one among them
  for (std::size_t rank = 0; rank < seats.size(); ++rank) {
    const Seat& seat = seats[rank];
    if (rank == static_cast<std::size_t>(ranks.rank()) || seat.host != own.host) continue;
    ++share.ranks;
    if (CPU_EQUAL(&seat.cores, &own.cores)) ++sharers;
  }
  int cores = CPU_COUNT(&own.cores);
  if (cores == 0) cores = static_cast<int>(std::thread::hardware_concurrency());  // too many
  share.threads = std::max(1, cores / sharers);
  return share;
}

std::vector<std::vector<std::size_t>> deal_directories(std::span<const int> directory_nodes,
                                                       std::span<const int> rank_nodes) {
  std::vector<std::vector<std::size_t>> dealt(rank_nodes.size());
  const bool is_enough = directory_nodes.size() >= rank_nodes.size();
  const std::span<const int> given = is_enough ? directory_nodes : rank_nodes;
  const std::span<const int> takers = is_enough ? rank_nodes : directory_nodes;
  std::vector<std::size_t> counts(takers.size(), 0);
  for (std::size_t i = 0; i < given.size() && !takers.empty(); ++i) {
    const std::size_t taker = next_taker(takers, counts, given[i]);
    ++counts[taker];
    dealt[is_enough ? taker : i].push_back(is_enough ? i : taker);
  }
  return dealt;
}

std::vector<std::string> own_directories(Ranks& ranks,
                                         const std::vector<std::string>& directories) {
  const Neighbourhood own{.host = number_of_host(), .node = aio::numa_node_of_allowed_cores()};
  const std::vector<Neighbourhood> all = ranks.gather_values(own);
  std::vector<int> rank_nodes;  // of this host's ranks
  std::size_t own_place = 0;
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (rank == static_cast<std::size_t>(ranks.rank())) own_place = rank_nodes.size();
    if (all[rank].host == own.host) rank_nodes.push_back(static_cast<int>(all[rank].node));
  }
  std::vector<int> directory_nodes;
  directory_nodes.reserve(directories.size());
  for (const std::string& directory : directories) directory_nodes.push_back(node_of(directory));
  const std::vector<std::vector<std::size_t>> dealt = deal_directories(directory_nodes, rank_nodes);
  std::vector<std::string> mine;
  for (const std::size_t i : dealt[own_place]) mine.push_back(directories[i]);
  return mine;
}

}  // namespace strata::zero3
