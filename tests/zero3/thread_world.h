#pragma once

#include <exception>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "zero3/ranks/threads.h"

namespace strata::zero3 {

/// Runs `body` on a thread for each rank of a group, and returns what each of them threw: null
/// where it threw nothing. A rank whose body has ended has left.
inline std::vector<std::exception_ptr> run_ranks(const ThreadRanks::Options& options,
                                                 const std::function<void(Ranks&)>& body) {
  ThreadRanks group(options);
  std::vector<std::exception_ptr> thrown(static_cast<std::size_t>(options.size));
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < options.size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        body(*group.join(rank));
      } catch (...) {
        thrown[static_cast<std::size_t>(rank)] = std::current_exception();
      }
    });
  }
  threads.clear();
  return thrown;
}

}  // namespace strata::zero3
