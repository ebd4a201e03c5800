#include "doctor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "support/temp_directory.h"

namespace strata::tool::doctor_test {
namespace {

using testing::HasSubstr;

const std::vector<Examination> kExaminations = {
    {"machine", {{"kernel", Severity::kOk, "Linux 6.1", ""}}},
    {"/mnt/\xff",
     {{"free space", Severity::kProblem, "1 B", "make room"},
      {"wear", Severity::kNote, "not told", "sudo"}}}};

TEST(Doctor, PrintsEachFindingWithItsCureBelow) {
  std::ostringstream out;
  print_examinations(out, kExaminations);
  EXPECT_EQ(out.str(),
            "machine\n"
            "  ok       kernel      Linux 6.1\n"
            "\n"
            "/mnt/\xff\n"
            "  problem  free space  1 B\n"
            "                       cure: make room\n"
            "  note     wear        not told\n"
            "                       cure: sudo\n"
            "\n"
            "1 problem, 1 note\n");
}

TEST(Doctor, PrintsTheSameAsJson) {
  std::ostringstream out;
  print_examinations_json(out, kExaminations);
  const auto root = nlohmann::json::parse(out.str());
  EXPECT_EQ(root["problems"], 1);
  EXPECT_EQ(root["notes"], 1);
  EXPECT_EQ(root["places"][0]["place"], "machine");
  EXPECT_TRUE(root["places"][0]["findings"][0]["cure"].is_null());
  const auto& finding = root["places"][1]["findings"][0];
  EXPECT_EQ(finding["check"], "free space");
  EXPECT_EQ(finding["severity"], "problem");
  EXPECT_EQ(finding["found"], "1 B");
  EXPECT_EQ(finding["cure"], "make room");
}

TEST(Doctor, FailsWithAProblemAlone) {
  const support::TempDirectory here(std::filesystem::current_path());
  std::filesystem::create_directories(here / "proc");  // a machine that tells nothing
  std::ostringstream out;
  EXPECT_EQ(doctor({}, {}, out, here.path()), ExitCode::kDone);
  EXPECT_THAT(out.str(), HasSubstr("no problem"));
  EXPECT_EQ(doctor({.directories = {here / "missing"}}, {}, out, here.path()), ExitCode::kFailed);
  EXPECT_THAT(out.str(), HasSubstr("mkdir -p"));
}

}  // namespace
}  // namespace strata::tool::doctor_test
