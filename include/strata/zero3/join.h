#pragma once

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <memory>

#include "strata/zero3/world.h"

namespace c10d {
class ProcessGroup;
}

namespace strata {

namespace zero3 {
class Ranks;
}

/// How long ranks wait for one another.
struct JoinOptions {
  /// For all ranks to come to `join`.
  std::chrono::milliseconds start{300'000};
  /// A rank that has not been heard of for so long is lost: its process is stopped, or its host or
  /// the network is gone. A process that ends is noticed at once.
  std::chrono::milliseconds silence{10'000};
  /// Of a single wait for ranks that are there, but do not come. Longer than the longest time by
  /// which ranks may be apart: an evaluation on one of them, say.
  std::chrono::milliseconds wait{1'800'000};
};

/// Joins the ranks of a run that are processes; the end of this one, for EnginePlace::ranks. All
/// ranks call it, once; several engines of a process use the same end, one after the other.
///
///     const auto world = strata::World::of_this_process();
///     const auto ranks = strata::join(world);
///     strata::Engine engine(config, {.ranks = ranks.get()});
///
/// Ranks exchange host memory by LibTorch's Gloo, over the network interface of the host's name or
/// that of GLOO_SOCKET_IFNAME. What is sent is not encrypted, and nobody is asked who he is: a
/// network of one's own, as with torch. Threads: where OMP_NUM_THREADS is not set, LibTorch
/// computes with this rank's share of the cores (torch::set_num_threads), as an engine does.
///
/// A rank that dies, leaves or is stopped ends the run: whatever waits for it on the others throws
/// RankFailure, which names it. Destroyed, this rank has left; that takes two seconds at most.
///
/// Throws DeadlineExceeded, naming the ranks that did not come within `start`; ConfigError when
/// they are of different versions of Strata or worlds of different sizes, when two have the same
/// rank or one joins twice, and in a build without Gloo; IoError when they cannot meet or connect.
[[nodiscard]] std::shared_ptr<zero3::Ranks> join(const World& world,
                                                 const JoinOptions& options = {});

/// The same over a process group of the program's own. Its backend for CPU tensors carries the
/// bytes, by `send` and `recv`, and nothing else while this lives; its store is used to connect
/// what ranks tell one another beside them. UsageError for a group without one of the two.
[[nodiscard]] std::shared_ptr<zero3::Ranks> join(
    const c10::intrusive_ptr<c10d::ProcessGroup>& group, const JoinOptions& options = {});

}  // namespace strata
