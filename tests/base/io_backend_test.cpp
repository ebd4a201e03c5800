#include "strata/base/io_backend.h"

#include <gtest/gtest.h>

#include <set>
#include <string_view>

namespace strata {
namespace {

TEST(IoBackendNames, LeadBackToTheirBackendAndNoTwoShareOne) {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < kIoBackendNames.size(); ++i) {
    const auto backend = static_cast<IoBackend>(i);
    EXPECT_EQ(io_backend_named(name_of(backend)), backend);
    names.insert(name_of(backend));
  }
  EXPECT_EQ(names.size(), kIoBackendNames.size());
  EXPECT_EQ(name_of(IoBackend::kNull), kIoBackendNames.back());
}

TEST(IoBackendNames, OfNoBackendAreNone) {
  for (const char* name : {"", "uring", "IO_URING", "auto ", "nul"}) {
    EXPECT_EQ(io_backend_named(name), std::nullopt) << name;
  }
}

}  // namespace
}  // namespace strata
