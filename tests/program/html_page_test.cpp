#include "html_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/markup_balance.h"

namespace strata::tool::html_page_test {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(HtmlPage, IsWellFormedAndEscapesEveryText) {
  const std::string page = html_page({.title = "<b>&",
                                      .summary = "a < b",
                                      .figures = {{"<i>", "1 > 0"}},
                                      .sections = {{"<u>", "<p>text</p>\n"}}});
  EXPECT_EQ(support::unbalanced(page), "");
  for (const char* markup : {"<b>&", "<i>", "<u>"}) EXPECT_THAT(page, Not(HasSubstr(markup)));
  EXPECT_THAT(page, HasSubstr("<p>text</p>"));
}

TEST(HtmlPage, LeavesOutSectionsWithoutContent) {
  const std::string page = html_page(
      {.title = "t", .summary = "", .figures = {}, .sections = {{"empty", ""}, {"full", "x"}}});
  EXPECT_THAT(page, Not(HasSubstr("empty")));
  EXPECT_THAT(page, HasSubstr("<h2>full</h2>"));
}

TEST(HtmlPage, NeedsNothingElse) {
  const std::string page =
      html_page({.title = "t", .summary = "", .figures = {}, .sections = {{"s", "x"}}});
  for (const char* word : {"http", "src=", "<script", "@import", "url("}) {
    EXPECT_THAT(page, Not(HasSubstr(word)));
  }
}

}  // namespace
}  // namespace strata::tool::html_page_test
