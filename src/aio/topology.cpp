#include "aio/topology.h"

namespace strata::aio {
namespace {

/// Caches are left out always, and devices where they are not asked for: reading them takes hwloc
/// many times longer than the rest. Packages and groups stay, for a node's cores are those of the
/// object that it hangs on.
Topology load(hwloc_type_filter_e devices) {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return nullptr;
  Topology topology(raw);
  hwloc_topology_set_cache_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_NONE);
  hwloc_topology_set_io_types_filter(raw, devices);
  if (hwloc_topology_load(raw) != 0) return nullptr;
  return topology;
}

}  // namespace

Topology load_topology() { return load(HWLOC_TYPE_FILTER_KEEP_NONE); }

std::optional<int> numa_node_of_pci(const std::string& address) {
  const Topology topology = load(HWLOC_TYPE_FILTER_KEEP_ALL);
  if (topology == nullptr) return std::nullopt;
  hwloc_obj_t device = hwloc_get_pcidev_by_busidstring(topology.get(), address.c_str());
  if (device == nullptr) return std::nullopt;
  hwloc_obj_t place = hwloc_get_non_io_ancestor_obj(topology.get(), device);
  if (place == nullptr || place->nodeset == nullptr) return std::nullopt;
  if (hwloc_bitmap_weight(place->nodeset) != 1) return std::nullopt;
  return hwloc_bitmap_first(place->nodeset);
}

}  // namespace strata::aio
