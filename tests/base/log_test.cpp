#include "strata/base/log.h"

#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace strata {
namespace {

TEST(Logger, WritesOneLinePerMessageWithItsLevel) {
  std::ostringstream out;
  Logger log(out);
  log.info("ready");
  log.warning("slow disk");
  log.error("no disk");
  EXPECT_EQ(out.str(), "ready\nwarning: slow disk\nerror: no disk\n");
}

TEST(Logger, DropsWhatIsBelowItsLevel) {
  std::ostringstream out;
  Logger log(out);
  log.set_level(LogLevel::kError);
  log.info("ready");
  log.warning("slow disk");
  log.error("no disk");
  EXPECT_EQ(out.str(), "error: no disk\n");
}

TEST(Logger, NeverMixesTwoLines) {
  constexpr int kThreads = 4;
  constexpr int kLines = 500;
  std::ostringstream out;
  Logger log(out);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&log, t] {
        const std::string line(40, static_cast<char>('a' + t));
        for (int i = 0; i < kLines; ++i) log.info(line);
      });
    }
  }
  std::istringstream in(out.str());
  int lines = 0;
  for (std::string line; std::getline(in, line); ++lines) {
    EXPECT_EQ(line, std::string(40, line.front()));
  }
  EXPECT_EQ(lines, kThreads * kLines);
}

}  // namespace
}  // namespace strata
