"""Makes and unmakes tokens for the `strata` program, with the tokenizer of a model directory.

Reads a JSON object a line and answers with one, until there are no more:
    {"encode": [text, ...]}                      {"ids": [[id, ...], ...]}
    {"continue": [id, ...], "with": [id, ...]}   {"text": what the second ones add to the first}
The first answer, {"ready": true}, comes by itself. What fails is answered {"error": why}.
"""

import json
import os
import sys

sys.path = [place for place in sys.path if place]  # not the directory that the program runs in
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a directory is all there is to read
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)  # what libraries print is no answer
FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "tokenizer_config.json")


class Problem(Exception):
    """Something the user can put right."""


class OfTransformers:
    def __init__(self, directory):
        import transformers

        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)
        except Exception as error:  # whatever reads such files raises whatever it likes
            raise Problem(f"transformers cannot load a tokenizer from {directory}: {error}") from error

    def encode(self, texts):
        return [self.tokenizer(text)["input_ids"] for text in texts]

    def decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


class OfTokenizers:
    def __init__(self, directory):
        import tokenizers

        path = os.path.join(directory, "tokenizer.json")
        if not os.path.isfile(path):
            raise Problem(f"{directory} has no tokenizer.json; other files need the Python package 'transformers'")
        try:
            self.tokenizer = tokenizers.Tokenizer.from_file(path)
        except Exception as error:  # the package raises bare Exception
            raise Problem(f"{path} is no tokenizer: {error}") from error

    def encode(self, texts):
        return [self.tokenizer.encode(text).ids for text in texts]

    def decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=True)


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


def answer(tokenizer, request):
    if "encode" in request:
        return {"ids": [list(map(int, ids)) for ids in tokenizer.encode(request["encode"])]}
    before, all_of_it = tokenizer.decode(request["continue"]), tokenizer.decode(request["continue"] + request["with"])
    if all_of_it.startswith(before):
        return {"text": all_of_it[len(before):]}
    return {"text": tokenizer.decode(request["with"])}


def say(message):
    json.dump(message, answers)
    answers.write("\n")
    answers.flush()


def main():
    try:
        tokenizer = open_tokenizer(sys.argv[1])
        say({"ready": True})
        for line in sys.stdin:
            say(answer(tokenizer, json.loads(line)))
    except Problem as problem:
        say({"error": str(problem)})
    except BrokenPipeError:
        pass  # the program has gone
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"})


main()
