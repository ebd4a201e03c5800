"""Makes and unmakes tokens for the `strata` program, with the tokenizer of a model directory.

Reads a JSON object a line and answers with one, until there are no more:
    {"encode": [text, ...]}                      {"ids": [[id, ...], ...]}
    {"encode_plain": [text, ...]}                the same without tokens that the tokenizer adds itself
    {"decode": [[id, ...], ...]}                 {"texts": [text, ...]}, special tokens too
    {"continue": [id, ...], "with": [id, ...]}   {"text": what the second ones add to the first}
    {"documents": [example, ...], "everything": whether all tokens bear loss}
                                                 {"documents": [{"ids": [id, ...], "bears": [[begin, end], ...]}, ...]}
                                                 or {"refused": why, "at": index of the example}
An example is {"text": text}, {"prompt": text, "completion": text} or {"messages": [{"role", "content"}, ...]}.
The first answer, {"ready": true, "chat_template": whether there is one}, comes by itself. What fails is answered
{"error": why}.
"""

import json
import os
import re
import sys

sys.path = [place for place in sys.path if place]  # not the directory that the program runs in
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a directory is all there is to read
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "tokenizer_config.json")


class Problem(Exception):
    """Something the user can put right."""


class Refused(Exception):
    """What is wrong with one example."""


class OfTransformers:
    """The tokenizer of the package transformers, which reads all kinds of files."""

    def __init__(self, directory):
        import transformers

        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)
        except Exception as error:  # whatever reads such files raises whatever it likes
            raise Problem(f"transformers cannot load a tokenizer from {directory}: {error}") from error
        self.end = self.tokenizer.eos_token_id
        self.template = self.tokenizer.chat_template
        special = [token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        self.special = sorted({*special, *self.tokenizer.all_special_tokens}, key=len, reverse=True)

    def encode(self, texts):
        return [self.tokenizer(text)["input_ids"] for text in texts]

    def encode_plain(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def decode(self, ids, skip_special=True):
        return self.tokenizer.decode(ids, skip_special_tokens=skip_special, clean_up_tokenization_spaces=False)

    def render(self, messages):
        try:
            return self.tokenizer.apply_chat_template(messages, tokenize=False)
        except Exception as error:  # a template raises what it likes
            raise Refused(f"the model's chat template does not take it: {error}") from error

    def chat(self, messages):
        """Tokens of a chat, and the ranges of them that are answers."""
        if isinstance(self.template, str) and re.search(r"{%-?\s*generation\b", self.template):
            made = self.tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
            return made["input_ids"], ranges(made["assistant_masks"])
        text = self.render(messages)
        spans = answer_spans(text, messages, self.render, self.special)
        if self.tokenizer.is_fast:
            made = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            # A token that has a part of an answer is one of it.
            return made["input_ids"], ranges([any(begin < end and begin < last and end > first for first, last in spans)
                                              for begin, end in made["offset_mapping"]])
        ids, bears, at = [], [], 0
        for first, last in spans:
            ids += self.encode_plain(text[at:first])
            answer = self.encode_plain(text[first:last])
            bears.append([len(ids), len(ids) + len(answer)])
            ids += answer
            at = last
        return ids + self.encode_plain(text[at:]), bears


class OfTokenizers:
    """The tokenizer of the package tokenizers, which reads tokenizer.json alone, and no chat template."""

    template = None

    def __init__(self, directory):
        import tokenizers

        path = os.path.join(directory, "tokenizer.json")
        if not os.path.isfile(path):
            raise Problem(f"{directory} has no tokenizer.json; other files need the Python package 'transformers'")
        try:
            self.tokenizer = tokenizers.Tokenizer.from_file(path)
        except Exception as error:  # the package raises bare Exception
            raise Problem(f"{path} is no tokenizer: {error}") from error
        self.end = self.tokenizer.token_to_id(end_of_text(directory))

    def encode(self, texts):
        return [self.tokenizer.encode(text).ids for text in texts]

    def encode_plain(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids, skip_special=True):
        return self.tokenizer.decode(ids, skip_special_tokens=skip_special)


def end_of_text(directory):
    """The token that ends a text, as tokenizer_config.json names it, or GPT-2's."""
    path = os.path.join(directory, "tokenizer_config.json")
    token = None
    if os.path.isfile(path):
        with open(path, encoding="utf-8") as file:
            token = json.load(file).get("eos_token")
    if isinstance(token, dict):
        token = token.get("content")
    return token or "<|endoftext|>"


def ranges(bears):
    """[begin, end] of every run that is true."""
    found = []
    for i, bearing in enumerate(bears):
        if not bearing:
            continue
        if found and found[-1][1] == i:
            found[-1][1] = i + 1
        else:
            found.append([i, i + 1])
    return found


def answer_spans(text, messages, render, special):
    """Where the answers lie in the text of a chat, each with the special token that ends it.

    They are found by what the template makes of the same chat with marks in their places.
    """
    marks = {i: f"[[answer {i} of strata]]" for i, message in enumerate(messages) if message["role"] == "assistant"}
    around = re.split("|".join(map(re.escape, marks.values())), render(
        [{**message, "content": marks[i]} if i in marks else message for i, message in enumerate(messages)]))
    unclear = Refused("the model's chat template changes answers, or writes them elsewhere, so that they cannot be told "
                      "apart; give a template with {% generation %}, or --loss-on everything")
    if len(around) != len(marks) + 1 or not text.startswith(around[0]):
        raise unclear
    at, spans = len(around[0]), []
    for i, behind in zip(marks, around[1:]):
        content = messages[i]["content"]
        forms = (content, content.strip(), content.rstrip(), content.lstrip())
        fitting = [form for form in forms if text.startswith(form + behind, at)]
        if not fitting:
            raise unclear
        end = at + len(fitting[0])
        rest = text[end:]
        closing = next((token for token in special if rest.lstrip().startswith(token)), None)
        closed = end if closing is None else end + len(rest) - len(rest.lstrip()) + len(closing)
        spans.append((at, closed))
        at = end + len(behind)
    if at != len(text):
        raise unclear
    return spans


def open_tokenizer(directory):
    # Where there are none, transformers makes up a tokenizer that drops every word.
    if not any(os.path.isfile(os.path.join(directory, name)) for name in FILES):
        raise Problem(f"{directory} holds no tokenizer ({', '.join(FILES[:4])}); copy the files of the model's own")
    for kind in (OfTransformers, OfTokenizers):
        try:
            return kind(directory)
        except ImportError:
            continue
    raise Problem(f"a tokenizer needs the Python package 'transformers' or 'tokenizers', and {sys.executable} has "
                  "neither; install one (python3 -m pip install transformers), or name another Python in the variable "
                  "STRATA_PYTHON")


def ended(tokenizer, ids):
    return ids if tokenizer.end is None or (ids and ids[-1] == tokenizer.end) else ids + [tokenizer.end]


def completion(tokenizer, prompt, text):
    """Tokens of a prompt and what completes it, and the range of the latter."""
    before, whole = tokenizer.encode([prompt])[0], tokenizer.encode([prompt + text])[0]
    if before and before[-1] == tokenizer.end and tokenizer.encode_plain(prompt)[-1:] != [tokenizer.end]:
        before = before[:-1]  # the tokenizer ends texts itself
    if whole[:len(before)] != before:
        whole = before + tokenizer.encode_plain(text)  # as a prompt comes to a model that is to complete it
    whole = ended(tokenizer, whole)
    return whole, [[len(before), len(whole)]]


def document(tokenizer, example, everything):
    if "text" in example:
        ids = ended(tokenizer, tokenizer.encode([example["text"]])[0])
        bears, everything = [], True
    elif "prompt" in example:
        ids, bears = completion(tokenizer, example["prompt"], example["completion"])
    elif everything:
        ids, bears = tokenizer.encode_plain(tokenizer.render(example["messages"])), []
    else:
        ids, bears = tokenizer.chat(example["messages"])
    return {"ids": list(map(int, ids)), "bears": [[0, len(ids)]] if everything else bears}


def documents(tokenizer, request):
    made = []
    for i, example in enumerate(request["documents"]):
        try:
            made.append(document(tokenizer, example, request["everything"]))
        except Refused as refused:
            return {"refused": str(refused), "at": i}
    return {"documents": made}


def answer(tokenizer, request):
    if "encode" in request:
        return {"ids": [list(map(int, ids)) for ids in tokenizer.encode(request["encode"])]}
    if "encode_plain" in request:
        return {"ids": [list(map(int, tokenizer.encode_plain(text))) for text in request["encode_plain"]]}
    if "decode" in request:
        return {"texts": [tokenizer.decode(ids, skip_special=False) for ids in request["decode"]]}
    if "documents" in request:
        return documents(tokenizer, request)
    before, all_of_it = tokenizer.decode(request["continue"]), tokenizer.decode(request["continue"] + request["with"])
    if all_of_it.startswith(before):
        return {"text": all_of_it[len(before):]}
    return {"text": tokenizer.decode(request["with"])}


def main():
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer

    def say(message):
        json.dump(message, answers)
        answers.write("\n")
        answers.flush()

    try:
        tokenizer = open_tokenizer(sys.argv[1])
        say({"ready": True, "chat_template": tokenizer.template is not None})
        for line in sys.stdin:
            say(answer(tokenizer, json.loads(line)))
    except Problem as problem:
        say({"error": str(problem)})
    except BrokenPipeError:
        pass  # the program has gone
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
