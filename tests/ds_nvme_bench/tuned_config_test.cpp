#include "tuned_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "strata/base/error.h"
#include "support/temp_directory.h"

namespace strata::nvme_bench::tuned_config_test {
namespace {

using formats::DsConfig;
using support::TempDirectory;
using ::testing::HasSubstr;
using ::testing::Not;

namespace fs = std::filesystem;

const Setting kSetting{IoBackend::kIoUring, 2_MiB, 16, 2};

std::string content_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

constexpr const char* kConfig = R"({
    "train_batch_size": 8,
    "aio": {"thread_count": 3, "use_gds": false, "block_size": 4096},
    "zero_optimization": {"stage": 3, "stage3_max_live_parameters": 1e9},
    "optimizer": {"type": "AdamW", "params": {"lr": 1e-5, "betas": [0.9, 0.999]}},
    "strata": {"budget": {"host": "4GiB"}, "io": "threads"}
}
)";

TEST(TunedConfig, SectionsReadBackToTheSetting) {
  for (const IoBackend engine : {IoBackend::kIoUring, IoBackend::kLibaio, IoBackend::kThreads}) {
    const Setting setting{engine, 512_KiB, 8, 4};
    const DsConfig config = DsConfig::from_text(config_sections(setting), "sections");
    EXPECT_EQ(config.aio, aio_config(setting));
    EXPECT_EQ(config.strata.io, engine);
  }
}

TEST(TunedConfig, SectionsHaveTheKeysAndTypesThatDeepSpeedTakes) {
  const auto aio = nlohmann::json::parse(config_sections(kSetting))["aio"];
  EXPECT_EQ(aio["block_size"], 2097152);
  EXPECT_EQ(aio["queue_depth"], 16);
  EXPECT_EQ(aio["intra_op_parallelism"], 2);
  EXPECT_TRUE(aio["single_submit"].is_boolean());
  EXPECT_TRUE(aio["overlap_events"].is_boolean());
  EXPECT_EQ(aio.size(), 5u);
}

TEST(TunedConfig, TheThreadsEngineHasAThreadForEachRequestInFlight) {
  const auto config = aio_config({IoBackend::kThreads, 1_MiB, 8, 2});
  EXPECT_EQ(config.queue_depth, 16);
  EXPECT_EQ(config.threads, 16);
}

TEST(TunedConfig, EverythingElseStaysAsItIsWritten) {
  const std::string changed = with_setting(kConfig, "test", kSetting);
  EXPECT_THAT(changed, HasSubstr(R"("stage3_max_live_parameters": 1e9},)"));
  EXPECT_THAT(changed, HasSubstr(R"("params": {"lr": 1e-5, "betas": [0.9, 0.999]}})"));
  EXPECT_THAT(changed, HasSubstr(R"("strata": {"budget": {"host": "4GiB"}, "io": "io_uring"})"));
  EXPECT_THAT(changed, HasSubstr("\"use_gds\": false"));
  EXPECT_THAT(changed, Not(HasSubstr("thread_count")));
  const DsConfig config = DsConfig::from_text(changed, "test");
  EXPECT_EQ(config.aio, aio_config(kSetting));
  EXPECT_EQ(config.strata.host_budget_bytes, 4_GiB);
}

TEST(TunedConfig, AByteOrderMarkStays) {
  const std::string text = "\xEF\xBB\xBF{\"train_batch_size\": 4}";
  const std::string changed = with_setting(text, "config", kSetting);
  EXPECT_TRUE(changed.starts_with("\xEF\xBB\xBF{\"train_batch_size\": 4, \"aio\"")) << changed;
}

TEST(TunedConfig, WritingTwiceChangesNothingMore) {
  const std::string once = with_setting(kConfig, "test", kSetting);
  EXPECT_EQ(with_setting(once, "test", kSetting), once);
}

TEST(TunedConfig, AddsTheSectionsWhereThereAreNone) {
  for (const char* text :
       {"{}", "{\"train_batch_size\": 8}", "{\n\t\"bf16\": {\"enabled\": true}\n}",
        "{\"aio\": null, \"strata\": null}", "{\"strata\": {}}"}) {
    const DsConfig config = DsConfig::from_text(with_setting(text, "test", kSetting), "test");
    EXPECT_EQ(config.aio, aio_config(kSetting)) << text;
    EXPECT_EQ(config.strata.io, IoBackend::kIoUring) << text;
  }
}

TEST(TunedConfig, CommentsAndLooseCommasOfAConfigStay) {
  const std::string text =
      "{\n  // before \"aio\": {\n  train_batch_size: 4, # {batch\n"
      "  aio: { /* } */ queue_depth: 3 // deep\n  },\n"
      "  'bf16': {\"enabled\": true,},\n  // the end }\n}\n// }\n";
  const std::string changed = with_setting(text, "test", kSetting);
  for (const char* kept : {"// before \"aio\": {", "# {batch", "'bf16': {\"enabled\": true,}",
                           "// the end }\n}\n// }\n"}) {
    EXPECT_THAT(changed, HasSubstr(kept));
  }
  const DsConfig config = DsConfig::from_text(changed, "test");
  EXPECT_EQ(config.aio, aio_config(kSetting));
  EXPECT_EQ(config.train_batch_size, 4);
  EXPECT_EQ(with_setting(changed, "test", kSetting), changed);
}

TEST(TunedConfig, AddsTheSectionsToEveryKindOfHjson) {
  for (const char* text :
       {"{\n  // nothing yet\n}", "{\n  /* c */ steps_per_print: 1\n  # }\n}",
        "{optimizer: {type: AdamW\n}}", "{\n strata: {io: auto\n}\n train_batch_size: 4\n}",
        "{\r\n  \"train_batch_size\": 4,\r\n}\r\n",
        "{\n  zero_optimization: {offload_param: {device: cpu\n nvme_path: '''/a'''}}\n"
        "  _note: text, to the end }\n}"}) {
    const std::string changed = with_setting(text, "test", kSetting);
    const DsConfig config = DsConfig::from_text(changed, "test");
    EXPECT_EQ(config.aio, aio_config(kSetting)) << changed;
    EXPECT_EQ(config.strata.io, IoBackend::kIoUring) << changed;
  }
}

TEST(TunedConfig, AFileWithoutBracesIsNotWrittenTo) {
  EXPECT_THROW((void)with_setting("train_batch_size: 4\n", "test", kSetting), ConfigError);
}

TEST(TunedConfig, RefusesAFileThatTheParserRefusesAndLeavesItAlone) {
  const TempDirectory directory;
  const auto path = directory.write("config.json", R"({"aioo": {}})");
  EXPECT_THROW(write_setting(path, kSetting), ConfigError);
  EXPECT_EQ(content_of(path), R"({"aioo": {}})");
  EXPECT_EQ(std::distance(fs::directory_iterator(directory.path()), {}), 1) << "no leftovers";
}

TEST(TunedConfig, FindsOutBeforeWhatWillBeRefusedAndLeavesNothing) {
  const TempDirectory directory;
  const auto refused = directory.write("refused.json", R"({"aioo": {}})");
  EXPECT_THROW(check_config(refused), ConfigError);
  EXPECT_THROW(check_config(directory.path() / "missing/new.json"), IoError);
  EXPECT_THROW(check_config("/proc/new.json"), IoError) << "where even root makes no file";
  check_config(directory.path() / "new.json");
  EXPECT_EQ(std::distance(fs::directory_iterator(directory.path()), {}), 1);
}

TEST(TunedConfig, KeepsPermissionsAndSymbolicLinks) {
  const TempDirectory directory;
  const auto path = directory.write("config.json", kConfig);
  ::chmod(path.c_str(), 0640);
  fs::create_symlink("config.json", directory.path() / "link.json");
  write_setting(directory.path() / "link.json", kSetting);
  EXPECT_TRUE(fs::is_symlink(directory.path() / "link.json"));
  EXPECT_EQ(static_cast<int>(fs::status(path).permissions()), 0640);
  EXPECT_EQ(DsConfig::from_file(path).aio, aio_config(kSetting));
}

TEST(TunedConfig, KeepsOwnerAndGroup) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root may give a file away";
  const TempDirectory directory;
  const auto path = directory.write("config.json", kConfig);
  ASSERT_EQ(::chown(path.c_str(), 4321, 1234), 0);
  ASSERT_EQ(::chmod(path.c_str(), 02640), 0);
  write_setting(path, kSetting);
  struct stat status {};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 4321u);
  EXPECT_EQ(status.st_gid, 1234u);
  EXPECT_EQ(status.st_mode & 07777, 02640u)
      << "the owner is set before the mode, which that clears";
}

TEST(TunedConfig, IsCheckedWhereALinkLeadsAndLeavesNothingBehind) {
  const TempDirectory directory;
  fs::create_symlink(directory.path() / "missing/config.json", directory.path() / "link.json");
  EXPECT_THROW(check_config(directory.path() / "link.json"), IoError);
  fs::create_directory(directory.path() / "missing");
  check_config(directory.path() / "link.json");
  EXPECT_TRUE(fs::is_empty(directory.path() / "missing"));
  write_setting(directory.path() / "link.json", kSetting);
  EXPECT_TRUE(fs::is_symlink(directory.path() / "link.json"));
  EXPECT_EQ(DsConfig::from_file(directory.path() / "missing/config.json").aio,
            aio_config(kSetting));
}

TEST(TunedConfig, MakesANewFile) {
  const TempDirectory directory;
  write_setting(directory.path() / "new.json", kSetting);
  EXPECT_EQ(DsConfig::from_file(directory.path() / "new.json").aio, aio_config(kSetting));
  EXPECT_THROW(write_setting(directory.path() / "missing/new.json", kSetting), IoError);
}

}  // namespace
}  // namespace strata::nvme_bench::tuned_config_test
