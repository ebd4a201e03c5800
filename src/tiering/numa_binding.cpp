#include "tiering/numa_binding.h"

#include <hwloc.h>

#include <cerrno>
#include <memory>
#include <type_traits>

#include "strata/base/error.h"

namespace strata::tiering {
namespace {

struct DestroyTopology {
  void operator()(hwloc_topology_t topology) const { hwloc_topology_destroy(topology); }
};
using Topology = std::unique_ptr<std::remove_pointer_t<hwloc_topology_t>, DestroyTopology>;

struct FreeBitmap {
  void operator()(hwloc_bitmap_t bitmap) const { hwloc_bitmap_free(bitmap); }
};
using Bitmap = std::unique_ptr<std::remove_pointer_t<hwloc_bitmap_t>, FreeBitmap>;

/// Cores and NUMA nodes only: reading caches and devices takes hwloc many times longer.
Topology load_topology() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return nullptr;
  Topology topology(raw);
  hwloc_topology_set_all_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_NONE);
  if (hwloc_topology_load(raw) != 0) return nullptr;
  return topology;
}

/// The nodes next to the core that the calling thread runs on; empty when hwloc cannot tell.
Bitmap nodes_of_calling_thread(hwloc_topology_t topology) {
  const Bitmap cores(hwloc_bitmap_alloc());
  Bitmap nodes(hwloc_bitmap_alloc());
  if (hwloc_get_last_cpu_location(topology, cores.get(), HWLOC_CPUBIND_THREAD) == 0) {
    hwloc_cpuset_to_nodeset(topology, cores.get(), nodes.get());
  }
  return nodes;
}

Bitmap nodes_with_index(hwloc_topology_t topology, int node) {
  Bitmap nodes(hwloc_bitmap_alloc());
  hwloc_bitmap_only(nodes.get(), static_cast<unsigned>(node));
  hwloc_bitmap_and(nodes.get(), nodes.get(), hwloc_topology_get_topology_nodeset(topology));
  return nodes;
}

}  // namespace

std::string bind_to_numa_node(void* base, std::uint64_t bytes, int node) {
  const Topology topology = load_topology();
  if (topology == nullptr) return "hwloc cannot read the machine's topology";
  const bool any_node = node < 0;
  if (any_node && hwloc_get_nbobjs_by_type(topology.get(), HWLOC_OBJ_NUMANODE) <= 1) return {};

  const Bitmap nodes =
      any_node ? nodes_of_calling_thread(topology.get()) : nodes_with_index(topology.get(), node);
  if (hwloc_bitmap_iszero(nodes.get()) != 0) {
    return any_node ? "the calling thread's node is unknown"
                    : "node " + std::to_string(node) + " does not exist";
  }
  // Without HWLOC_MEMBIND_STRICT the node is preferred: a full node spills to its neighbour
  // instead of ending the process.
  if (hwloc_set_area_membind(topology.get(), base, bytes, nodes.get(), HWLOC_MEMBIND_BIND,
                             HWLOC_MEMBIND_BYNODESET) != 0) {
    return errno_name(errno);
  }
  return {};
}

}  // namespace strata::tiering
