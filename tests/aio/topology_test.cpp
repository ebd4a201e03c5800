#include "aio/topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "aio/disk_tree.h"
#include "aio/made_up_machine.h"

namespace strata::aio::topology_test {
namespace {

using testing::Optional;

/// A package with a node, a core and a disk's controller, as hwloc writes it.
std::string package(const std::string& index, const std::string& set, const std::string& pci,
                    const std::string& buses) {
  const std::string sets = "cpuset=\"" + set + "\" complete_cpuset=\"" + set + "\" nodeset=\"" +
                           set + "\" complete_nodeset=\"" + set + "\"";
  const auto object = [&](const std::string& type, const std::string& id) {
    return "<object type=\"" + type + "\" os_index=\"" + index + "\" gp_index=\"" + index + id +
           "\" " + sets;
  };
  return object("Package", "2") + ">" + object("NUMANode", "3") + " local_memory=\"1048576\"/>" +
         object("PU", "4") + "/><object type=\"Bridge\" gp_index=\"" + index +
         "5\" bridge_type=\"0-1\" depth=\"0\" bridge_pci=\"0000:[" + buses +
         "]\"><object type=\"PCIDev\" gp_index=\"" + index + "6\" pci_busid=\"" + pci +
         "\" pci_type=\"0108 [144d:a80a] [144d:a801] 00\" pci_link_speed=\"0.0\"/></object>" +
         "</object>";
}

TEST(NumaNodeOfPci, IsTheNodeOfTheBusThatTheDeviceHangsOn) {
  DiskTree tree;
  tree.write("machine.xml",
             "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
             "<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">\n"
             "<topology version=\"2.0\"><object type=\"Machine\" os_index=\"0\" gp_index=\"1\" "
             "cpuset=\"0x3\" complete_cpuset=\"0x3\" allowed_cpuset=\"0x3\" nodeset=\"0x3\" "
             "complete_nodeset=\"0x3\" allowed_nodeset=\"0x3\">" +
                 package("0", "0x1", "0000:01:00.0", "00-01") +
                 package("1", "0x2", "0000:81:00.0", "80-81") + "</object></topology>");
  const MadeUpMachine machine("HWLOC_XMLFILE", tree.root() / "machine.xml");
  EXPECT_THAT(numa_node_of_pci("0000:01:00.0"), Optional(0));
  EXPECT_THAT(numa_node_of_pci("0000:81:00.0"), Optional(1));
  EXPECT_FALSE(numa_node_of_pci("0000:02:00.0"));
}

}  // namespace
}  // namespace strata::aio::topology_test
