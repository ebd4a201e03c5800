#include "zero3/ranks/together.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <exception>
#include <string>

#include "strata/base/error.h"
#include "zero3/thread_world.h"

namespace strata::zero3::together_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// What a rank threw, as text; its type in front.
std::string text_of(const std::exception_ptr& thrown) {
  if (!thrown) return "nothing";
  try {
    std::rethrow_exception(thrown);
  } catch (const IoError& error) {
    return "IoError " + std::to_string(error.code()) + " " + error.what();
  } catch (const DataError& error) {
    return std::string("DataError ") + error.what();
  } catch (const std::exception& error) {
    return std::string("other ") + error.what();
  }
}

TEST(DoTogether, EndsWellWhereAllDo) {
  for (const auto& thrown : run_ranks({.size = 3}, [](Ranks& ranks) {
         int done = 0;
         do_together(ranks, [&] { ++done; });
         EXPECT_EQ(done, 1);
       })) {
    EXPECT_EQ(text_of(thrown), "nothing");
  }
}

TEST(DoTogether, FailsOnAllWhereOneFailsAndTheyGoOn) {
  const auto thrown = run_ranks({.size = 3}, [](Ranks& ranks) {
    try {
      do_together(ranks, [&] {
        if (ranks.rank() == 1) throw system_error("write", "/a/file", ENOSPC);
      });
    } catch (const IoError&) {
      ranks.barrier();  // nothing has ended for them
      throw;
    }
  });
  const std::string code = "IoError " + std::to_string(ENOSPC);
  EXPECT_THAT(text_of(thrown[1]), AllOf(HasSubstr(code + " write /a/file"), HasSubstr("ENOSPC")));
  for (const int other : {0, 2}) {
    EXPECT_THAT(text_of(thrown[static_cast<std::size_t>(other)]),
                HasSubstr(code + " rank 1: write /a/file"));
  }
}

TEST(DoTogether, KeepsEachRanksOwnErrorAndCutsLongMessages) {
  const auto thrown = run_ranks({.size = 3}, [](Ranks& ranks) {
    do_together(ranks, [&] {
      if (ranks.rank() == 0) throw DataError(std::string(5000, 'x'));
      if (ranks.rank() == 2) throw DataError("two");
    });
  });
  EXPECT_EQ(text_of(thrown[0]).size(), 5000 + std::string("DataError ").size());
  EXPECT_THAT(text_of(thrown[1]), HasSubstr("DataError rank 0: xxx"));
  EXPECT_EQ(text_of(thrown[2]), "DataError two");
}

}  // namespace
}  // namespace strata::zero3::together_test
