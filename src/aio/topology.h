#pragma once

#include <hwloc.h>

#include <memory>
#include <optional>
#include <string>
#include <type_traits>

namespace strata::aio {

struct DestroyTopology {
  void operator()(hwloc_topology_t topology) const { hwloc_topology_destroy(topology); }
};
using Topology = std::unique_ptr<std::remove_pointer_t<hwloc_topology_t>, DestroyTopology>;

struct FreeBitmap {
  void operator()(hwloc_bitmap_t bitmap) const { hwloc_bitmap_free(bitmap); }
};
using Bitmap = std::unique_ptr<std::remove_pointer_t<hwloc_bitmap_t>, FreeBitmap>;

/// The machine's cores and NUMA nodes; null when hwloc cannot read them.
[[nodiscard]] Topology load_topology();

/// The NUMA node next to a PCI device ("0000:01:00.0") as hwloc sees it: absent when the device is
/// unknown, or as near to several nodes.
[[nodiscard]] std::optional<int> numa_node_of_pci(const std::string& address);

}  // namespace strata::aio
