#include "strata/aio/numa.h"

#include <cerrno>

#include "aio/topology.h"
#include "strata/base/error.h"

namespace strata::aio {
namespace {

constexpr const char* kNoTopology = "hwloc cannot read the machine's topology";

/// The nodes next to the core that the calling thread runs on; empty when hwloc cannot tell.
Bitmap nodes_of_calling_thread(hwloc_topology_t topology) {
  const Bitmap cores(hwloc_bitmap_alloc());
  Bitmap nodes(hwloc_bitmap_alloc());
  if (hwloc_get_last_cpu_location(topology, cores.get(), HWLOC_CPUBIND_THREAD) == 0) {
    hwloc_cpuset_to_nodeset(topology, cores.get(), nodes.get());
  }
  return nodes;
}

/// The node with this index; empty when the machine has none.
Bitmap nodes_with_index(hwloc_topology_t topology, int node) {
  Bitmap nodes(hwloc_bitmap_alloc());
  hwloc_bitmap_only(nodes.get(), static_cast<unsigned>(node));
  hwloc_bitmap_and(nodes.get(), nodes.get(), hwloc_topology_get_topology_nodeset(topology));
  return nodes;
}

std::string no_such_node(int node) { return "node " + std::to_string(node) + " does not exist"; }

}  // namespace

int numa_node_of_allowed_cores() {
  const Topology topology = load_topology();
  if (topology == nullptr) return -1;
  const Bitmap cores(hwloc_bitmap_alloc());
  if (hwloc_get_cpubind(topology.get(), cores.get(), HWLOC_CPUBIND_THREAD) != 0) return -1;
  const Bitmap nodes(hwloc_bitmap_alloc());
  hwloc_cpuset_to_nodeset(topology.get(), cores.get(), nodes.get());
  return hwloc_bitmap_weight(nodes.get()) == 1 ? hwloc_bitmap_first(nodes.get()) : -1;
}

std::string run_on_numa_node(int node) {
  if (node < 0) return {};
  const Topology topology = load_topology();
  if (topology == nullptr) return kNoTopology;
  const Bitmap nodes = nodes_with_index(topology.get(), node);
  if (hwloc_bitmap_iszero(nodes.get()) != 0) return no_such_node(node);

  const Bitmap cores(hwloc_bitmap_alloc());
  hwloc_cpuset_from_nodeset(topology.get(), cores.get(), nodes.get());
  const Bitmap allowed(hwloc_bitmap_alloc());
  // A set that confines the thread already (taskset, a job scheduler) is not widened.
  if (hwloc_get_cpubind(topology.get(), allowed.get(), HWLOC_CPUBIND_THREAD) == 0) {
    hwloc_bitmap_and(cores.get(), cores.get(), allowed.get());
  }
  if (hwloc_bitmap_iszero(cores.get()) != 0) {
    return "this thread may use no core of node " + std::to_string(node);
  }
  if (hwloc_set_cpubind(topology.get(), cores.get(), HWLOC_CPUBIND_THREAD) != 0) {
    return errno_name(errno);
  }
  return {};
}

std::string bind_to_numa_node(std::span<std::byte> memory, int node) {
  const Topology topology = load_topology();
  if (topology == nullptr) return kNoTopology;
  const bool any_node = node < 0;
  if (any_node && hwloc_get_nbobjs_by_type(topology.get(), HWLOC_OBJ_NUMANODE) <= 1) return {};

  const Bitmap nodes =
      any_node ? nodes_of_calling_thread(topology.get()) : nodes_with_index(topology.get(), node);
  if (hwloc_bitmap_iszero(nodes.get()) != 0) {
    return any_node ? "the calling thread's node is unknown" : no_such_node(node);
  }
  // Without HWLOC_MEMBIND_STRICT the node is preferred: a full node spills to its neighbour
  // instead of ending the process.
  if (hwloc_set_area_membind(topology.get(), memory.data(), memory.size(), nodes.get(),
                             HWLOC_MEMBIND_BIND, HWLOC_MEMBIND_BYNODESET) != 0) {
    return errno_name(errno);
  }
  return {};
}

}  // namespace strata::aio
