#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "formats/token_bytes.h"
#include "strata/base/error.h"
#include "strata/formats/token_data.h"
#include "support/message_of.h"
#include "support/temp_directory.h"

/// \file
/// What --data is, is decided by what the file holds: it is read right or refused by name.

namespace strata::formats::token_content_test {
namespace {

using support::TempDirectory;
using namespace std::string_literals;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// 5000 ids of a vocabulary of 50257, none of them special.
template <class Number>
std::string many_ids() {
  std::vector<Number> ids(5000);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<Number>(i * 7919 % 50257);
  return bytes_of(ids);
}

std::string npy(const std::string& dictionary, const std::string& data, char version = 1) {
  std::string header = dictionary;
  const std::size_t fixed = version == 1 ? 10 : 12;
  while ((fixed + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  const auto length = static_cast<std::uint32_t>(header.size());
  std::string file = "\x93NUMPY"s + version + '\0';
  file.append(reinterpret_cast<const char*>(&length), version == 1 ? 2 : 4);
  return file + header + data;
}

std::string npy_of(const std::string& type, const std::string& shape, const std::string& data,
                   char version = 1) {
  return npy("{'descr': '" + type + "', 'fortran_order': False, 'shape': " + shape + ", }", data,
             version);
}

std::string utf16(const std::string& text, bool big) {
  std::string wide;
  for (const char c : text) wide += big ? "\0"s + c : c + "\0"s;
  return wide;
}

std::string utf32(const std::string& text, bool big) {
  std::string wide;
  for (const char c : text) wide += big ? "\0\0\0"s + c : c + "\0\0\0"s;
  return wide;
}

const std::string kText = "She sells sea shells by the sea shore, and the sea is wide.\n";

class TokenContent : public ::testing::Test {
 protected:
  TokenData open(const std::string& name, std::string_view content, std::int64_t vocab_size) {
    return TokenData::from_file(directory_.write(name, content), vocab_size);
  }
  std::vector<std::int64_t> tokens_of(const std::string& name, std::string_view content,
                                      std::int64_t vocab_size = 200'000) {
    const TokenData data = open(name, content, vocab_size);
    data.check_all();
    std::vector<std::int64_t> tokens(data.size());
    data.read(0, tokens);
    return tokens;
  }
  std::string error_of(const std::string& name, std::string_view content,
                       std::int64_t vocab_size = 65536) {
    return support::message_of<DataError>([&] { (void)tokens_of(name, content, vocab_size); });
  }

  TempDirectory directory_;
};

TEST_F(TokenContent, NumPyArraysOfWholeNumbersAreTokens) {
  for (const char version : {'\1', '\2', '\3'}) {
    EXPECT_THAT(
        tokens_of("a.npy", npy_of("<u2", "(3,)", bytes_of<std::uint16_t>({0, 65535, 7}), version)),
        ElementsAre(0, 65535, 7));
  }
  EXPECT_THAT(tokens_of("a.npy", npy_of("<u4", "(2,)", bytes_of<std::uint32_t>({1, 100'000}))),
              ElementsAre(1, 100'000));
  EXPECT_THAT(tokens_of("a.npy", npy_of("<i4", "(2,)", bytes_of<std::int32_t>({1, 100'000}))),
              ElementsAre(1, 100'000));
  EXPECT_THAT(tokens_of("a.npy", npy_of("<i8", "(2,)", bytes_of<std::int64_t>({1, 100'000}))),
              ElementsAre(1, 100'000));
  EXPECT_THAT(tokens_of("a.npy", npy_of("<u8", "(2L,)", bytes_of<std::uint64_t>({1, 100'000}))),
              ElementsAre(1, 100'000));
  EXPECT_THAT(tokens_of("a.npy", npy_of("<i2", "(2,)", bytes_of<std::int16_t>({1, 30'000}))),
              ElementsAre(1, 30'000));
  EXPECT_THAT(tokens_of("a.npy", npy_of("|u1", "(2,)", "\0\xff"s)), ElementsAre(0, 255));
}

TEST_F(TokenContent, ANumPyFileIsOneUnderAnyName) {
  const std::string file = npy_of("<u2", "(2,)", bytes_of<std::uint16_t>({5, 6}));
  for (const char* name : {"train.npy", "train.bin", "train.txt", "TRAIN"}) {
    EXPECT_THAT(tokens_of(name, file), ElementsAre(5, 6)) << name;
  }
  EXPECT_EQ(open("x.npy", npy_of("|u1", "(2,)", "ab"), 256).encoding(), TokenEncoding::kUint8);
}

TEST_F(TokenContent, OtherNumPyFilesAreRefusedWithWhatTheyAre) {
  const std::string data = bytes_of<std::uint16_t>({1, 2, 3, 4});
  EXPECT_THAT(
      error_of("a.npy", npy_of("<f4", "(2,)", data)),
      AllOf(HasSubstr("a.npy: is a NumPy file"), HasSubstr("<f4"), HasSubstr("numpy.save")));
  EXPECT_THAT(error_of("a.npy", npy_of(">u2", "(4,)", data)), HasSubstr("little endian"));
  EXPECT_THAT(error_of("a.npy", npy_of("|O", "(4,)", data)), HasSubstr("|O"));
  EXPECT_THAT(error_of("a.npy", npy_of("<u2", "(2, 2)", data)), HasSubstr("shape (2, 2)"));
  EXPECT_THAT(error_of("a.npy", npy_of("<u2", "()", data)), HasSubstr("shape ()"));
  EXPECT_THAT(error_of("a.npy", npy("{'descr': [('a', '<u2')], 'fortran_order': False, "
                                    "'shape': (4,), }",
                                    data)),
              HasSubstr("records"));
  EXPECT_THAT(error_of("a.npy", npy_of("<u2", "(4,)", data, 4)), HasSubstr("version 4"));
  EXPECT_THAT(error_of("a.npy", npy_of("<i2", "(4,)", bytes_of<std::int16_t>({1, 2, -3, 4}))),
              AllOf(HasSubstr("token id -3"), HasSubstr("negative")));
}

TEST_F(TokenContent, ANumPyFileThatIsCutShortOrHasMoreIsRefused) {
  const std::string data = bytes_of<std::uint16_t>({1, 2, 3, 4});
  EXPECT_THAT(error_of("a.npy", npy_of("<u2", "(5,)", data)),
              AllOf(HasSubstr("says 5 tokens"), HasSubstr("holds 4"), HasSubstr("truncated")));
  EXPECT_THAT(error_of("a.npy", npy_of("<u2", "(4,)", data + "x")), HasSubstr("a piece of one"));
  EXPECT_THAT(error_of("a.npy", "\x93NUMPY\1"), HasSubstr("cut short"));
  EXPECT_THAT(error_of("a.npy", "\x93NUMPY\1\0\xff\xff{'descr"s), HasSubstr("does not fit"));
  for (const char* broken :
       {"", "{", "{'descr'", "{'descr': '<u2'", "{'shape': (4", "{'shape': (a,)}",
        "{'descr': '<u2', 'fortran_order': Maybe, 'shape': (4,)}",
        "{'shape': (99999999999999999999,)}", "{'x': 1}"}) {
    EXPECT_THAT(error_of("a.npy", npy(broken, data)), HasSubstr("is a NumPy file")) << broken;
  }
}

TEST_F(TokenContent, NamesOfTokenFilesAreReadInAnyCase) {
  EXPECT_THAT(tokens_of("TRAIN.BIN", bytes_of<std::uint16_t>({5, 600})), ElementsAre(5, 600));
  EXPECT_THAT(tokens_of("train.U32.Bin", bytes_of<std::uint32_t>({5, 100'000})),
              ElementsAre(5, 100'000));
}

TEST_F(TokenContent, LlmcsTokensAreReadUnderAnyName) {
  EXPECT_THAT(tokens_of("train.dat", llmc_header(20240520, 1, 2) + bytes_of<std::uint16_t>({7, 9})),
              ElementsAre(7, 9));
}

TEST_F(TokenContent, LlmcsOtherFilesAreRefusedByMagicAndVersion) {
  const std::string rest = many_ids<std::uint16_t>();
  for (const auto& [magic, version] : std::vector<std::pair<int, int>>{{20240520, 2},
                                                                       {20240520, 7},
                                                                       {20240801, 1},
                                                                       {20240522, 1},
                                                                       {20240326, 3},
                                                                       {20240326, 5},
                                                                       {20240327, 2},
                                                                       {20240328, 2},
                                                                       {20240803, 3}}) {
    for (const char* name : {"x.bin", "x.u32.bin", "x.dat"}) {
      EXPECT_THAT(
          error_of(name, llmc_header(magic, version, 5000) + rest),
          AllOf(HasSubstr("an llm.c file of magic " + std::to_string(magic)),
                HasSubstr("version " + std::to_string(version)), HasSubstr("no training tokens")))
          << name;
    }
  }
  EXPECT_THAT(error_of("x.bin", llmc_header(20240520, 1, 9).substr(0, 400)),
              HasSubstr("truncated"));
}

TEST_F(TokenContent, FilesOfOtherKindsAreRefusedByName) {
  const std::string rest = many_ids<std::uint16_t>();
  const std::string header = R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  const std::string length = bytes_of<std::uint64_t>({header.size()});
  const std::pair<std::string, const char*> kinds[] = {
      {"\x1f\x8b\x08\0"s, "gzip"},
      {"PK\x03\x04", "zip"},
      {"(\xb5/\xfd", "Zstandard"},
      {"\xfd"
       "7zXZ\0"s,
       "xz"},
      {"BZh91AY&SY", "bzip2"},
      {"\x80\x02\x8a\nl\xfc\x9c", "PyTorch"},
      {"PAR1", "Parquet"},
      {"ARROW1\0\0"s, "Arrow"},
      {"%PDF-1.7\n", "PDF"},
      {"\x89PNG\r\n\x1a\n", "PNG"},
      {"\xff\xd8\xff\xe0", "JPEG"},
      {"\x89HDF\r\n\x1a\n", "HDF5"},
      {"\x7f"
       "ELF",
       "program"},
      {"GGUF\3\0\0\0"s, "GGUF"},
      {"MMIDIDX\0\0"s, "Megatron"},
      {"SQLite format 3\0"s, "SQLite"},
      {length + header + "abcd", "safetensors"},
  };
  for (const auto& [begin, word] : kinds) {
    for (const char* name : {"data.txt", "data.bin", "data.u32.bin", "data"}) {
      EXPECT_THAT(error_of(name, begin + rest), AllOf(HasSubstr("begins as"), HasSubstr(word)))
          << name;
    }
  }
  EXPECT_THAT(error_of("a.txt", std::string(257, 'x') + "ustar\0"s + rest),
              HasSubstr("tar archive"));
  EXPECT_THAT(error_of("a.pkl", "\x80\x04\x95" + rest + "."), HasSubstr("pickle"));
  EXPECT_THAT(error_of("a.txt", "version https://git-lfs.github.com/spec/v1\noid sha256:12\n"),
              HasSubstr("Git LFS"));
}

TEST_F(TokenContent, WideCharactersAreRefusedWithAndWithoutAMark) {
  for (const bool big : {false, true}) {
    EXPECT_THAT(error_of("a.txt", utf16(kText, big)),
                AllOf(HasSubstr(big ? "UTF-16BE" : "UTF-16LE"), HasSubstr("iconv")));
    EXPECT_THAT(error_of("a.txt", utf32(kText, big)),
                AllOf(HasSubstr(big ? "UTF-32BE" : "UTF-32LE"), HasSubstr("iconv")));
  }
  EXPECT_THAT(error_of("a.txt", "\xff\xfe" + utf16(kText, false)), HasSubstr("UTF-16"));
  EXPECT_THAT(error_of("a.txt", "\xfe\xff" + utf16(kText, true)), HasSubstr("UTF-16"));
  EXPECT_THAT(error_of("a.txt", "\xff\xfe\0\0"s + utf32(kText, false)), HasSubstr("UTF-32"));
  EXPECT_THAT(error_of("a.txt", "\0\0\xfe\xff"s + utf32(kText, true)), HasSubstr("UTF-32"));
  std::string chinese;  // in UTF-16LE, without a single Latin letter
  for (int i = 0; i < 2000; ++i)
    chinese += {static_cast<char>(i * 37 + 1), static_cast<char>(0x4e + i % 80)};
  EXPECT_THAT(error_of("a.txt", chinese), HasSubstr("no text"));
}

TEST_F(TokenContent, TokenIdsUnderANameOfTextAreRefused) {
  for (const std::string& ids : {many_ids<std::uint16_t>(), many_ids<std::uint32_t>(),
                                 many_ids<std::int64_t>(), utf16(kText, false)}) {
    EXPECT_THAT(error_of("tokens.dat", ids),
                AllOf(AnyOf(HasSubstr("no text"), HasSubstr("to all appearances")),
                      HasSubstr("token ids"), HasSubstr(".u32.bin"), HasSubstr("numpy.save")));
  }
}

TEST_F(TokenContent, AZeroByteLateInATextIsFoundBeforeTraining) {
  std::string text;
  while (text.size() < 200'000) text += kText;
  EXPECT_EQ(error_of("a.txt", text), support::kNothingThrown);
  text[150'000] = '\0';
  EXPECT_THAT(error_of("a.txt", text),
              AllOf(HasSubstr("zero byte at byte 150000"), HasSubstr("tr -d")));
}

TEST_F(TokenContent, TextInAnyEncodingOfSingleBytesIsText) {
  for (const std::string& text :
       {kText, "\xef\xbb\xbf" + kText,
        "caf\xe9 "
        "\xfc"
        "ber \xdf\n"s,
        "\x1b[1mbold\x1b[0m\f\n"s, "\xe4\xbd\xa0\xe5\xa5\xbd\n"s, "a"s, "\x1e{\"a\": 1}\n"s}) {
    EXPECT_EQ(error_of("a.txt", text), support::kNothingThrown) << text;
  }
}

TEST_F(TokenContent, TextUnderANameOfTokenIdsIsRefused) {
  std::string chinese;
  for (int i = 0; i < 20; ++i) chinese += "\xe4\xbd\xa0\xe5\xa5\xbd";
  for (const std::string& text :
       {kText + kText, kText + "caf\xe9\n", kText + "\xe2\x80\x9cSo\xe2\x80\x9d", chinese}) {
    for (const char* name : {"book.bin", "book.u32.bin"}) {
      EXPECT_THAT(error_of(name, text, 2'000'000'000),
                  AllOf(HasSubstr("holds text"), HasSubstr(".txt")));
    }
  }
  EXPECT_EQ(error_of("x.bin", many_ids<std::uint16_t>()), support::kNothingThrown);
  EXPECT_THAT(error_of("x.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:12\n"),
              HasSubstr("Git LFS"));
}

TEST_F(TokenContent, IdsOfEightBytesUnderANameOfNarrowerOnesAreRefused) {
  for (const char* name : {"x.bin", "x.u32.bin"}) {
    EXPECT_THAT(error_of(name, many_ids<std::int64_t>()),
                AllOf(HasSubstr("int64"), HasSubstr("numpy.save")));
  }
  EXPECT_EQ(error_of("x.u32.bin", many_ids<std::uint32_t>()), support::kNothingThrown);
}

TEST_F(TokenContent, ANamedEncodingOverrulesNameAndContent) {
  const auto path = directory_.write("x.txt", utf16("ab", false));
  EXPECT_EQ(TokenData::from_file(path, 256, TokenEncoding::kUint16).size(), 2u);
  const TokenData bytes = TokenData::from_file(path, 256, TokenEncoding::kBytes);
  EXPECT_NO_THROW(bytes.check_all());
  EXPECT_EQ(bytes.size(), 4u);
}

TEST_F(TokenContent, MarkupAroundTheWordsIsNamed) {
  const auto markup = [this](const std::string& name, const std::string& content) {
    return open(name, content, 256).markup();
  };
  EXPECT_EQ(markup("a.txt", kText), "");
  EXPECT_EQ(markup("a.txt", "[1] A footnote: \"so\"\n"), "");
  EXPECT_EQ(markup("a.txt", "{\"text\": \"She sells\"}\n"), "JSON");
  EXPECT_EQ(markup("a.txt", "\xef\xbb\xbf[\n  {\"text\": \"She\"}]"), "JSON");
  EXPECT_EQ(markup("a.jsonl", "[1, 2]\n"), "JSON");
  EXPECT_EQ(markup("a.CSV", "text,label\nShe,1\n"), "CSV");
  EXPECT_EQ(markup("a.txt", "<!DOCTYPE html><html>"), "HTML");
  EXPECT_EQ(open("a.npy", npy_of("<u2", "(1,)", "ab"), 65536).markup(), "");
}

TEST_F(TokenContent, CheckingCanBeEndedFromOutside) {
  const TokenData data = open("a.txt", kText, 256);
  struct Ended {};
  EXPECT_THROW(data.check_all([] { throw Ended(); }), Ended);
}

}  // namespace
}  // namespace strata::formats::token_content_test
