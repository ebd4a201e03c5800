#include "strata/optim_cpu/compute_threads.h"

#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/info.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>
#include <oneapi/tbb/task_group.h>

#include <algorithm>
#include <deque>
#include <exception>
#include <mutex>
#include <vector>

#include "strata/base/units.h"
#include "strata/base/unseen_order.h"

namespace strata::optim_cpu {
namespace {

/// The order that oneTBB keeps unseen: while this lives, every block comes after all that the
/// caller did before, and before all that the caller does once it is gone.
class OrderOfBlocks {
 public:
  OrderOfBlocks() noexcept { begun_.release(); }
  OrderOfBlocks(const OrderOfBlocks&) = delete;
  OrderOfBlocks& operator=(const OrderOfBlocks&) = delete;
  ~OrderOfBlocks() { ended_.acquire(); }

  void block_begins() noexcept { begun_.acquire(); }
  void block_ends() noexcept { ended_.release(); }

 private:
  UnseenOrder begun_, ended_;
};

std::vector<tbb::numa_node_id> nodes_of_machine() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  // oneTBB loads the library that knows with RTLD_DEEPBIND, which sanitizers refuse.
  return {tbb::task_arena::automatic};
#else
  return tbb::info::numa_nodes();
#endif
}

}  // namespace

struct ComputeThreads::Impl {
  explicit Impl(InstructionSet set) : instructions(set) {}
  /// A NUMA node's threads, and their work.
  struct Node {
    explicit Node(const tbb::task_arena::constraints& where) : arena(where) {}
    tbb::task_arena arena;
    tbb::task_group group;
    int threads = 0;
  };
  const InstructionSet instructions;
  std::deque<Node> nodes;
  int threads = 0;
  std::mutex turn;  // with several nodes, whose groups serve one call at a time
};

ComputeThreads::ComputeThreads(int threads, InstructionSet instructions)
    : impl_(std::make_unique<Impl>(instructions)) {
  threads = std::min(threads, tbb::info::default_concurrency());
  const std::vector<tbb::numa_node_id> ids = nodes_of_machine();
  const int count =
      threads > 0 ? std::min(static_cast<int>(ids.size()), threads) : static_cast<int>(ids.size());
  for (int i = 0; i < count; ++i) {
    const tbb::numa_node_id id = ids[static_cast<std::size_t>(i)];
    // The first nodes take what does not divide evenly.
    const int share = threads > 0 ? threads / count + (i < threads % count ? 1 : 0)
                                  : tbb::info::default_concurrency(id);
    impl_->nodes.emplace_back(
        tbb::task_arena::constraints().set_numa_id(id).set_max_concurrency(share));
    impl_->nodes.back().threads = share;
    impl_->threads += share;
  }
}

ComputeThreads::~ComputeThreads() = default;

int ComputeThreads::threads() const noexcept { return impl_->threads; }
int ComputeThreads::nodes() const noexcept { return static_cast<int>(impl_->nodes.size()); }
InstructionSet ComputeThreads::instructions() const noexcept { return impl_->instructions; }

void ComputeThreads::for_each_block(std::uint64_t count, std::uint64_t block_elements,
                                    const std::function<void(Block)>& work) {
  OrderOfBlocks order;
  const auto run = [&](std::uint64_t first, std::uint64_t last) {
    tbb::parallel_for(first, last, [&](std::uint64_t block) {
      order.block_begins();
      const std::uint64_t begin = block * block_elements;
      work({begin, std::min(begin + block_elements, count)});
      order.block_ends();
    });
  };
  const std::uint64_t blocks = ceil_div(count, block_elements);
  if (impl_->nodes.size() == 1) {
    return impl_->nodes.front().arena.execute([&] { run(0, blocks); });
  }
  const std::lock_guard lock(impl_->turn);
  std::uint64_t threads_before = 0;
  const auto threads = static_cast<std::uint64_t>(impl_->threads);
  for (Impl::Node& node : impl_->nodes) {
    const std::uint64_t first = blocks * threads_before / threads;
    threads_before += static_cast<std::uint64_t>(node.threads);
    const std::uint64_t last = blocks * threads_before / threads;
    node.arena.execute(
        [&, first, last] { node.group.run([&, first, last] { run(first, last); }); });
  }
  std::exception_ptr failure;
  for (Impl::Node& node : impl_->nodes) {
    try {
      node.arena.execute([&] { node.group.wait(); });
    } catch (...) {
      failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace strata::optim_cpu
