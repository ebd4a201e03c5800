#include "output_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

#include "strata/base/error.h"
#include "support/temp_directory.h"

namespace strata::tool::output_file_test {
namespace {

namespace fs = std::filesystem;
using support::TempDirectory;

std::string content_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write_to(const fs::path& path, const std::string& text) {
  OutputFile file(path);
  file.stream() << text;
  file.publish();
}

std::ptrdiff_t files_in(const fs::path& directory) {
  return std::distance(fs::directory_iterator(directory), {});
}

TEST(OutputFile, AppearsCompleteOrNotAtAll) {
  const TempDirectory directory;
  const fs::path path = directory.path() / "result";
  {
    OutputFile given_up(path);
    given_up.stream() << "half";
  }
  EXPECT_EQ(files_in(directory.path()), 0);
  write_to(path, "old");
  write_to(path, "new");
  EXPECT_EQ(content_of(path), "new");
  EXPECT_EQ(files_in(directory.path()), 1);
}

TEST(OutputFile, GoesWhereALinkLeads) {
  const TempDirectory directory;
  const TempDirectory other;
  const fs::path link = directory.path() / "link";
  fs::create_symlink(other.path() / "result", link);
  for (const char* text : {"first, where there is nothing yet", "second"}) {
    write_to(link, text);
    EXPECT_TRUE(fs::is_symlink(link));
    EXPECT_EQ(content_of(other.path() / "result"), text);
  }
  EXPECT_EQ(files_in(directory.path()), 1);
}

TEST(OutputFile, RefusesADirectoryAndLinksInACircle) {
  const TempDirectory directory;
  fs::create_symlink(directory.path() / "b", directory.path() / "a");
  fs::create_symlink(directory.path() / "a", directory.path() / "b");
  EXPECT_THROW(OutputFile file(directory.path() / "a"), IoError);
  EXPECT_THROW(OutputFile file(directory.path()), IoError);
  EXPECT_THROW(OutputFile file(directory.path() / "missing/result"), IoError);
}

TEST(OutputFile, WritesIntoAPipeAndLeavesItThere) {
  const TempDirectory directory;
  const fs::path path = directory.path() / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(reader, 0);
  write_to(path, "through");
  char text[16] = {};
  EXPECT_EQ(::read(reader, text, sizeof text), 7);
  EXPECT_STREQ(text, "through");
  ::close(reader);
  EXPECT_TRUE(fs::is_fifo(path));
}

TEST(OutputFile, WritesBehindWhatAnOpenFileHasAlready) {
  const TempDirectory directory;
  const fs::path path = directory.path() / "log";
  std::ofstream(path) << "kept, ";
  const int open_file = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  ASSERT_GE(open_file, 0);
  const fs::path link = directory.path() / "stdout";
  fs::create_symlink("/proc/self/fd/" + std::to_string(open_file), link);
  write_to(link, "and more");
  ::close(open_file);
  EXPECT_EQ(content_of(path), "kept, and more");
}

}  // namespace
}  // namespace strata::tool::output_file_test
