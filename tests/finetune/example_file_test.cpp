#include "example_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "strata/base/error.h"
#include "support/message_of.h"
#include "support/temp_directory.h"

namespace strata::tool::example_file_test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ExampleFileTest : public ::testing::Test {
 protected:
  std::vector<Example> read(const std::string& content) {
    ExampleFile file(directory_.write("x.jsonl", content));
    std::vector<Example> examples;
    while (auto example = file.next()) examples.push_back(std::move(*example));
    unread_ = file.unread_keys();
    return examples;
  }
  std::string refusal(const std::string& content) {
    return support::message_of<DataError>([&] { (void)read(content); });
  }
  bool is_one(const std::string& name, const std::string& content) {
    return ExampleFile::is_one(directory_.write(name, content));
  }

  support::TempDirectory directory_;
  std::set<std::string> unread_;
};

TEST_F(ExampleFileTest, IsToldByWhatIsInItAndByItsNameWhereThatIsBroken) {
  EXPECT_TRUE(is_one("a.txt", R"({"text": "a"})"));
  EXPECT_TRUE(is_one("a.bin", "\n  \n{\"prompt\": \"a\", \"completion\": \"b\"}\n"));
  EXPECT_TRUE(is_one("a.txt", "\xef\xbb\xbf{\"text\": \"a\"}"));
  EXPECT_TRUE(is_one("a.jsonl", "{\"text\": \n"));
  EXPECT_TRUE(is_one("a.json", "\n[\n  {\n    \"text\": \"a\"\n  }\n]"));
  EXPECT_TRUE(is_one("a.txt", "\xef\xbb\xbf[{\"text\": \"a\"}]"));
  EXPECT_FALSE(is_one("a.txt", "{ a program }\n"));
  EXPECT_FALSE(is_one("a.txt", "[{ a program }]\n"));
  EXPECT_FALSE(is_one("a.txt", "[1, 2]\n"));
  EXPECT_FALSE(is_one("a.txt", "text {\"text\": \"a\"}"));
  EXPECT_FALSE(is_one("a.jsonl", ""));
  EXPECT_FALSE(is_one("a.bin", std::string("{\0}\0", 4)));
  EXPECT_FALSE(ExampleFile::is_one(directory_.path() / "missing"));
}

TEST_F(ExampleFileTest, EveryKindIsRead) {
  EXPECT_EQ(read(R"({"text": "a"})").at(0).text, "a");
  const Example completion = read(R"({"prompt": "p", "completion": "c", "id": 3})").at(0);
  EXPECT_EQ(completion.prompt + completion.text, "pc");
  EXPECT_THAT(unread_, ElementsAre("id"));
  const Example chat = read(
                           "{\"messages\": [{\"role\": \"system\", \"content\": \"s\"},"
                           "{\"role\": \"assistant\", \"content\": \"a\"}]}\n")
                           .at(0);
  EXPECT_EQ(chat.messages.at(1).role + chat.messages.at(1).content, "assistanta");
  const Example shared = read(
                             "{\"conversations\": [{\"from\": \"human\", \"value\": \"u\"},"
                             "{\"from\": \"gpt\", \"value\": \"a\"}]}\n")
                             .at(0);
  EXPECT_EQ(shared.messages.at(0).role + shared.messages.at(1).role, "userassistant");
  const Example alpaca =
      read(R"({"instruction": "i", "input": "n", "output": "o", "text": "whole"})").at(0);
  EXPECT_EQ(alpaca.kind, Example::Kind::kInstruction);
  EXPECT_EQ(alpaca.messages.at(0).content + alpaca.messages.at(1).content, "i\n\nno");
  EXPECT_THAT(alpaca.prompt, AllOf(HasSubstr("### Instruction:\ni\n"), HasSubstr("Input:\nn\n")));
  EXPECT_THAT(read(R"({"instruction": "i", "input": "", "output": "o"})").at(0).prompt,
              Not(HasSubstr("Input")));
}

TEST_F(ExampleFileTest, TheElementsOfAnArrayAreReadWhereverTheirLinesEnd) {
  const std::vector<Example> examples = read(
      "\xef\xbb\xbf [\n{\"text\": \"}{\\\"]\\\\\",\n \"id\": {\"a\": [{}]}},{\"text\":\"b\"}\n,\n"
      "{\"text\": \"c\"}\n]\n");
  ASSERT_EQ(examples.size(), 3U);
  EXPECT_EQ(examples[0].text, "}{\"]\\");
  EXPECT_EQ(examples[1].text + examples[2].text, "bc");
  EXPECT_THAT(examples[0].where, HasSubstr("x.jsonl:2"));
  EXPECT_THAT(examples[2].where, HasSubstr("x.jsonl:5"));
}

TEST_F(ExampleFileTest, ABadElementIsRefusedWithTheLineWhereItBegins) {
  const std::string good = "[{\"text\": \"a\"}\n";
  EXPECT_THAT(refusal(good + ",\n{\"text\":\n3}]"),
              AllOf(HasSubstr("x.jsonl:3: "), HasSubstr("\"text\" is number")));
  EXPECT_THAT(refusal(good + "{\"text\": \"b\"}]"), HasSubstr(":2: a comma is missing"));
  EXPECT_THAT(refusal(good + ", 3]"), HasSubstr(":2: an object is missing"));
  EXPECT_THAT(refusal(good + ",]"), HasSubstr("an object is missing"));
  EXPECT_THAT(refusal(good), HasSubstr("the array does not end"));
  EXPECT_THAT(refusal(good + ", {\"text\": \"b\"\n"), HasSubstr(":2: the object that begins here"));
  EXPECT_THAT(refusal(good + "] {"), HasSubstr("more behind the array"));
  EXPECT_THAT(refusal(good + ",{\"text\" \"b\"}]"), HasSubstr(":2: is no JSON"));
}

TEST_F(ExampleFileTest, ABadLineIsRefusedWithItsNumberAndWhatToDo) {
  const std::string good = "{\"text\": \"a\"}\n\n";
  EXPECT_THAT(refusal(good + "{\"text\": 3}\n"),
              AllOf(HasSubstr("x.jsonl:3: "), HasSubstr("\"text\" is number")));
  EXPECT_THAT(refusal(good + "{\"text\": \"a\"\n"),
              AllOf(HasSubstr(":3: is no JSON"), HasSubstr("jq")));
  EXPECT_THAT(refusal(good + "[]\n"), HasSubstr(":3: is array"));
  EXPECT_THAT(refusal(good + "{\"txt\": \"a\"}\n"),
              AllOf(HasSubstr("\"txt\""), HasSubstr("rename")));
  EXPECT_THAT(refusal(good + "{\"text\": \" \"}\n"), HasSubstr("empty"));
  EXPECT_THAT(refusal(good + R"({"prompt": "a", "completion": "b"})"),
              AllOf(HasSubstr(":3: "), HasSubstr("one kind")));
  EXPECT_THAT(refusal("{\"text\": \"\xff\"}\n"), HasSubstr(":1: is no JSON"));
  EXPECT_THAT(refusal(R"({"prompt": [], "completion": "b"})"), HasSubstr("messages"));
  EXPECT_THAT(refusal(R"({"text": "a", "tools": [1]})"), HasSubstr("\"tools\""));
  EXPECT_THAT(refusal(R"({"messages": []})"), HasSubstr("list of messages"));
  EXPECT_THAT(refusal(R"({"messages": [{"role": "user"}]})"), HasSubstr("messages[0] "));
  EXPECT_THAT(refusal(R"({"messages": [{"role": "bot", "content": "a"}]})"), HasSubstr("\"bot\""));
  EXPECT_THAT(refusal(R"({"messages": [{"role": "user", "content": "a"}]})"),
              HasSubstr("no answer"));
  EXPECT_THAT(
      refusal(R"({"messages": [{"role": "assistant", "content": "a", "tool_calls": [1]}]})"),
      HasSubstr("tool_calls"));
}

}  // namespace
}  // namespace strata::tool::example_file_test
