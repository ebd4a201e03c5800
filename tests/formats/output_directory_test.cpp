#include "strata/formats/output_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "strata/base/error.h"
#include "support/message_of.h"
#include "support/temp_directory.h"

namespace strata::formats::output_directory_test {
namespace {

namespace fs = std::filesystem;
using support::caught;
using support::message_of;
using support::TempDirectory;

void write(const fs::path& path, std::string_view content) { std::ofstream(path) << content; }

std::size_t entries(const fs::path& directory) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

TEST(OutputDirectory, AppearsOnlyWhenPublished) {
  const TempDirectory directory;
  const fs::path final_path = directory.path() / "out";
  OutputDirectory out(final_path);
  write(out.path() / "config.json", "{}");
  fs::create_directory(out.path() / "sub");
  write(out.path() / "sub" / "x", "1");
  EXPECT_FALSE(fs::exists(final_path));
  out.publish();
  EXPECT_EQ(fs::file_size(final_path / "config.json"), 2u);
  EXPECT_TRUE(fs::exists(final_path / "sub" / "x"));
  EXPECT_EQ(entries(directory.path()), 1u);
}

TEST(OutputDirectory, LeavesNothingWhenItIsNotPublished) {
  const TempDirectory directory;
  {
    const OutputDirectory out(directory.path() / "out");
    write(out.path() / "half", "written");
  }
  EXPECT_EQ(entries(directory.path()), 0u);
}

TEST(OutputDirectory, StaysAfterItsObjectIsGone) {
  const TempDirectory directory;
  OutputDirectory(directory.path() / "out").publish();
  EXPECT_TRUE(fs::is_directory(directory.path() / "out"));
}

TEST(OutputDirectory, MakesMissingParentsAndTakesATrailingSlash) {
  const TempDirectory directory;
  OutputDirectory(directory.path() / "a" / "b" / "").publish();
  EXPECT_TRUE(fs::is_directory(directory.path() / "a" / "b"));
  EXPECT_EQ(entries(directory.path() / "a"), 1u);
}

TEST(OutputDirectory, TakesTheRightsThatTheUmaskGives) {
  const TempDirectory directory;
  const mode_t before = ::umask(027);
  OutputDirectory(directory.path() / "out").publish();
  ::umask(before);
  EXPECT_EQ(fs::status(directory.path() / "out").permissions(), fs::perms(0750));
}

TEST(OutputDirectory, ReplacesAnEmptyDirectory) {
  const TempDirectory directory;
  fs::create_directory(directory.path() / "out");
  OutputDirectory out(directory.path() / "out");
  write(out.path() / "x", "1");
  out.publish();
  EXPECT_TRUE(fs::exists(directory.path() / "out" / "x"));
}

TEST(OutputDirectory, RefusesWhatExists) {
  const TempDirectory directory;
  fs::create_directory(directory.path() / "full");
  write(directory.path() / "full" / "precious", "1");
  EXPECT_THROW(OutputDirectory(directory.path() / "full"), ConfigError);
  EXPECT_THROW(OutputDirectory(directory.write("file", "")), ConfigError);
  fs::create_symlink("nowhere", directory.path() / "link");
  EXPECT_THROW(OutputDirectory(directory.path() / "link"), ConfigError);
  EXPECT_TRUE(fs::exists(directory.path() / "full" / "precious"));
}

TEST(OutputDirectory, NeverReplacesWhatAppearedMeanwhileAndKeepsWhatWasMade) {
  const TempDirectory directory;
  const fs::path final_path = directory.path() / "out";
  fs::path kept;
  {
    OutputDirectory first(final_path), second(final_path);
    write(first.path() / "x", "1");
    write(second.path() / "x", "22");
    kept = second.path();
    first.publish();
    EXPECT_THAT(message_of<IoError>([&] { second.publish(); }), testing::HasSubstr(kept.string()));
  }
  EXPECT_EQ(fs::file_size(final_path / "x"), 1u);
  EXPECT_EQ(fs::file_size(kept / "x"), 2u);
}

TEST(OutputDirectory, SaysBeforehandThatTheDiskIsTooSmall) {
  const TempDirectory directory;
  const OutputDirectory out(directory.path() / "out");
  EXPECT_NO_THROW(out.require_space(1));
  const auto error = caught<IoError>([&] { out.require_space(UINT64_MAX); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ENOSPC);
  EXPECT_THAT(error->what(), testing::HasSubstr("are free"));
}

TEST(OutputDirectory, APlaceThatCannotBeWrittenIsAnErrorAtOnce) {
  const TempDirectory directory;
  const fs::path file = directory.write("file", "");
  EXPECT_THROW(OutputDirectory(file / "out"), IoError);
  EXPECT_THROW(OutputDirectory("/proc/strata/out"), IoError);
}

TEST(WriteText, ReplacesTheWholeFileAndSaysWhyItCannot) {
  const TempDirectory directory;
  const fs::path path = directory.path() / "config.json";
  write_text(path, "a longer text");
  write_text(path, "short\n");
  EXPECT_EQ(fs::file_size(path), 6u);
  EXPECT_THAT(message_of<IoError>([&] { write_text(directory.path() / "missing" / "x", "text"); }),
              testing::AllOf(testing::HasSubstr("missing/x"), testing::HasSubstr("ENOENT")));
  EXPECT_THROW(write_text("/dev/full", "text"), IoError);
}

}  // namespace
}  // namespace strata::formats::output_directory_test
