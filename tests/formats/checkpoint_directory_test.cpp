#include "strata/formats/checkpoint_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <tuple>
#include <vector>

#include "strata/base/error.h"
#include "strata/formats/checkpoint_manifest.h"
#include "strata/formats/writable_file.h"
#include "support/message_of.h"
#include "support/temp_directory.h"

namespace strata::formats::checkpoint_directory_test {
namespace {

namespace fs = std::filesystem;
using support::caught;
using support::message_of;
using support::TempDirectory;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

Crc32 sum_of(std::string_view text) {
  Crc32 sum;
  sum.add(bytes_of(text));
  return sum;
}

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

CheckpointHead head(const std::string& tag, const std::string& text = "states") {
  return {.tag = tag,
          .step = 7,
          .micro_steps = 1,
          .world_size = 2,
          .files = {{"a.bin", sum_of(text)}},
          .program = {{"place", "17"}, {"\"quoted\"\n", ""}}};
}

/// A complete checkpoint of one file.
void save(const fs::path& directory, const std::string& tag, const std::string& text = "states",
          std::size_t keep = 0) {
  CheckpointOutput out(directory, tag);
  WritableFile file = WritableFile::create_with_room(out.path() / "a.bin", text.size());
  file.write(0, bytes_of(text));
  file.sync_and_close();
  out.publish(manifest_text(head(tag, text), {{"more", R"({"deep":[1,2]})"}}));
  out.prune(keep);
}

std::vector<std::string> entries(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) {
    names.push_back(entry.path().filename());
  }
  std::ranges::sort(names);
  return names;
}

// ---- checksums and files -----------------------------------------------------------------------

TEST(Crc32, IsThatOfZlib) {
  EXPECT_EQ(sum_of("123456789").value(), 0xcbf43926u);
  EXPECT_EQ(crc_text(0x1c291cau), "01c291ca");
}

TEST(Crc32, OfPartsIsThatOfTheWhole) {
  const std::string text = "what several write, each its own part";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    Crc32 joined = sum_of(text.substr(0, cut));
    joined.append(sum_of(text.substr(cut)));
    EXPECT_EQ(joined, sum_of(text)) << cut;
  }
}

TEST(WritableFile, IsWrittenByTwoInAnyOrder) {
  const TempDirectory directory;
  WritableFile first = WritableFile::create_with_room(directory / "file", 6);
  WritableFile second = WritableFile::open(directory / "file");
  second.write(3, bytes_of("def"));
  first.write(0, bytes_of("abc"));
  first.sync_and_close();
  second.sync_and_close();
  EXPECT_EQ(contents(directory / "file"), "abcdef");
}

TEST(WritableFile, IsNotMadeOverAnother) {
  const TempDirectory directory;
  directory.write("file", "old");
  EXPECT_EQ(
      caught<IoError>([&] { std::ignore = WritableFile::create(directory / "file"); })->code(),
      EEXIST);
  EXPECT_EQ(contents(directory / "file"), "old");
}

// ---- manifests ---------------------------------------------------------------------------------

TEST(CheckpointManifest, IsReadBackAsItWasWritten) {
  const TempDirectory directory;
  save(directory.path(), "one");
  const CheckpointManifest manifest = CheckpointManifest::read(directory / "one");
  EXPECT_EQ(manifest.head().tag, "one");
  EXPECT_EQ(manifest.head().step, 7);
  EXPECT_EQ(manifest.head().micro_steps, 1);
  EXPECT_EQ(manifest.head().world_size, 2);
  EXPECT_EQ(manifest.head().files, head("one").files);
  EXPECT_EQ(manifest.head().program, head("one").program);
  EXPECT_EQ(manifest.section("more").at("deep").elements()[1].as_int64(), 2);
  EXPECT_NE(manifest.find("a.bin"), nullptr);
  EXPECT_EQ(manifest.find("b.bin"), nullptr);
}

TEST(CheckpointManifest, IsRefusedWithAnyByteChangedOrAnyEndMissing) {
  const TempDirectory directory;
  save(directory.path(), "one");
  const fs::path path = directory / "one" / kManifestName;
  const std::string whole = contents(path);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ (1 << (i % 8)));
    directory.write("one/" + std::string(kManifestName), damaged);
    EXPECT_THAT(
        message_of<DataError>([&] { std::ignore = CheckpointManifest::read(directory / "one"); }),
        HasSubstr(path.string()))
        << "byte " << i;
    directory.write("one/" + std::string(kManifestName), whole.substr(0, i));
    EXPECT_THROW(std::ignore = CheckpointManifest::read(directory / "one"), DataError)
        << i << " bytes";
  }
}

TEST(CheckpointManifest, OfANewerVersionSaysSo) {
  const TempDirectory directory;
  std::string rest = manifest_text(head("one"), {});
  rest = rest.substr(rest.find('\n') + 1);
  rest.replace(rest.find("\"version\": 1"), 12, "\"version\": 2");
  fs::create_directory(directory / "one");
  directory.write("one/manifest.json",
                  "{\"manifest_crc32\": \"" + crc_text(sum_of(rest).value()) + "\",\n" + rest);
  EXPECT_THAT(
      message_of<DataError>([&] { std::ignore = CheckpointManifest::read(directory / "one"); }),
      HasSubstr("reads version 1"));
}

TEST(CheckpointManifest, NamesNoFileOutsideOfItsDirectory) {
  for (const std::string name : {"../a", "/etc/passwd", "a/b", "..", "", "a\n"}) {
    const TempDirectory directory;
    CheckpointHead evil = head("one");
    evil.files[0].name = name;
    fs::create_directory(directory / "one");
    directory.write("one/manifest.json", manifest_text(evil, {}));
    EXPECT_THAT(
        message_of<DataError>([&] { std::ignore = CheckpointManifest::read(directory / "one"); }),
        HasSubstr("plain file name"))
        << name;
  }
}

TEST(CheckpointManifest, TellsFilesThatAreMissingShortLongOrChanged) {
  const auto refused = [](const std::string& text) {
    const TempDirectory directory;
    save(directory.path(), "one");
    fs::remove(directory / "one" / "a.bin");
    if (text != "none") directory.write("one/a.bin", text);
    const CheckpointManifest manifest = CheckpointManifest::read(directory / "one");
    return message_of<DataError>([&] {
      require_files(manifest);
      const CheckpointFile& file = manifest.head().files[0];
      require_checksum(manifest, file,
                       checksum_of(directory / "one" / "a.bin", 0, file.sum.bytes()));
    });
  };
  EXPECT_EQ(refused("states"), support::kNothingThrown);
  EXPECT_THAT(refused("none"), HasSubstr("a.bin: the manifest names this file"));
  EXPECT_THAT(refused("state"), HasSubstr("has 5 bytes where the manifest says 6"));
  EXPECT_THAT(refused("states."), HasSubstr("has 7 bytes"));
  EXPECT_THAT(refused("stales"), HasSubstr("checksum"));
}

TEST(CheckpointManifest, ThatIsNotUtf8IsNotWritten) {
  CheckpointHead bad = head("one");
  bad.program["place"] = "\xff";
  EXPECT_THROW(static_cast<void>(manifest_text(bad, {})), UsageError);
}

// ---- directories -------------------------------------------------------------------------------

TEST(CheckpointDirectory, NamesTheOneThatWasPublishedLast) {
  const TempDirectory directory;
  const fs::path run = directory / "a" / "run";
  EXPECT_EQ(latest_tag(run), std::nullopt);
  EXPECT_THAT(checkpoint_tags(run), IsEmpty());
  save(run, "one");
  EXPECT_EQ(latest_tag(run), "one");
  save(run, "two");
  EXPECT_EQ(latest_tag(run), "two");
  EXPECT_THAT(checkpoint_tags(run), ElementsAre("two", "one"));
  EXPECT_THAT(entries(run), ElementsAre("latest", "one", "two"));
}

TEST(CheckpointDirectory, ShowsNothingOfOneThatIsGivenUp) {
  const TempDirectory directory;
  save(directory.path(), "one");
  {
    CheckpointOutput out(directory.path(), "two");
    directory.write(out.path().filename().string() + "/a.bin", "half");
  }
  EXPECT_EQ(latest_tag(directory.path()), "one");
  EXPECT_THAT(entries(directory.path()), ElementsAre("latest", "one"));
}

TEST(CheckpointDirectory, PutsAnotherInThePlaceOfOneWithTheSameTag) {
  const TempDirectory directory;
  save(directory.path(), "best", "first");
  save(directory.path(), "best", "second");
  EXPECT_EQ(contents(directory / "best" / "a.bin"), "second");
  EXPECT_THAT(entries(directory.path()), ElementsAre("best", "latest"));
}

TEST(CheckpointDirectory, KeepsAsManyAsItIsToldAndWhatIsNotItsOwn) {
  const TempDirectory directory;
  directory.write("notes.txt", "mine");
  fs::create_directory(directory / "folder");
  for (const char* tag : {"1", "2", "3", "4"}) save(directory.path(), tag, "states", 2);
  EXPECT_THAT(entries(directory.path()), ElementsAre("3", "4", "folder", "latest", "notes.txt"));
  save(directory.path(), "5", "states", 1);
  EXPECT_THAT(entries(directory.path()), ElementsAre("5", "folder", "latest", "notes.txt"));
}

TEST(CheckpointDirectory, IsFreedOfWhatAKilledProcessLeft) {
  const TempDirectory directory;
  save(directory.path(), "one");
  fs::create_directories(directory / ".strata-partial-two");
  fs::create_directories(directory / ".strata-partial-removed-zero");
  directory.write(".strata-partial-two/a.bin", "half");
  directory.write(".strata-partial-latest", "tw");
  save(directory.path(), "three");
  EXPECT_THAT(entries(directory.path()), ElementsAre("latest", "one", "three"));
}

TEST(CheckpointDirectory, IsWrittenByOneProcessAtATime) {
  const TempDirectory directory;
  const CheckpointOutput out(directory.path(), "one");
  const auto error = caught<IoError>([&] { CheckpointOutput(directory.path(), "two"); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), EWOULDBLOCK);
  EXPECT_THAT(error->what(), HasSubstr("a directory of its own"));
  EXPECT_TRUE(fs::exists(out.path()));
}

TEST(CheckpointDirectory, RefusesTagsThatAreNoNames) {
  const TempDirectory directory;
  for (const std::string tag : {"", ".", "..", ".hidden", "a/b", "../a", "latest", "a\nb"}) {
    EXPECT_THROW(CheckpointOutput(directory.path(), tag), ConfigError) << tag;
    if (tag == "latest" || tag.empty()) continue;
    directory.write("latest", tag + "\n");
    EXPECT_THROW(static_cast<void>(latest_tag(directory.path())), DataError) << tag;
    fs::remove(directory / "latest");
  }
  EXPECT_THAT(entries(directory.path()), IsEmpty());
  directory.write("file", "");
  EXPECT_THROW(CheckpointOutput(directory / "file", "one"), ConfigError);
}

TEST(CheckpointDirectory, FindsThatThereIsNoRoomBeforeAnythingIsWritten) {
  const TempDirectory directory;
  const CheckpointOutput out(directory.path(), "one");
  const auto error = caught<IoError>([&] { out.require_space(std::uint64_t{1} << 60); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ENOSPC);
}

TEST(CheckpointDirectory, StaysAsItWasWhenAFileCannotBeWritten) {
  const TempDirectory directory;
  save(directory.path(), "one", std::string(5000, 'x'));
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{4096, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const auto error =
      caught<IoError>([&] { save(directory.path(), "two", std::string(5000, 'y')); });
  setrlimit(RLIMIT_FSIZE, &before);
  (void)std::signal(SIGXFSZ, handler);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), EFBIG);
  EXPECT_EQ(latest_tag(directory.path()), "one");
  EXPECT_THAT(entries(directory.path()), ElementsAre("latest", "one"));
}

}  // namespace
}  // namespace strata::formats::checkpoint_directory_test
