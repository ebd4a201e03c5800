#include "zero3/ranks/host_share.h"

#include <sched.h>

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace strata::zero3 {
namespace {

/// A rank's host and the cores there that it may run on.
struct Seat {
  std::uint64_t host;
  cpu_set_t cores;
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

}  // namespace strata::zero3
