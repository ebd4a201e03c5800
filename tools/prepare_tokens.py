#!/usr/bin/env python3
"""Makes token files for `strata finetune --data` out of text.

With the tokenizer of a model directory, or with one token per character, as nanoGPT has it:

    tools/prepare_tokens.py --model gpt2/ --output data/ book.txt more.txt
    tools/prepare_tokens.py --char-level --val-fraction 0.1 --output data/ shakespeare.txt

Writes train.bin and, with --val-fraction, val.bin: token ids, little endian, uint16, or uint32 and
named train.u32.bin where the vocabulary has more than 65536 entries. With --char-level also
meta.json: the characters in the order of their ids. Text from the end of the input, tokenized on its
own, is what validation gets. Several inputs follow one another, with the tokenizer's end-of-text
token, where it has one, between them.
"""

import argparse
import array
import json
import os
import pathlib
import sys
from typing import Callable, Iterable, Iterator, List, NamedTuple, Tuple

CHUNK_CHARACTERS = 1 << 20
LARGEST_UINT16_VOCABULARY = 1 << 16
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model")


class Tokenizer(NamedTuple):
    encode: Callable[[str], List[int]]
    vocabulary_size: int
    separator: List[int]  # between two inputs
    splits_at_newlines: bool  # whether text is cut at ends of lines only


class PrepareError(Exception):
    """Something the user can put right; its text says what."""


def parse_arguments(arguments: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inputs", nargs="+", type=pathlib.Path, metavar="TEXT", help="UTF-8 text files")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--model", type=pathlib.Path, metavar="DIR", help="model directory with a tokenizer")
    kind.add_argument("--char-level", action="store_true", help="one token per character")
    parser.add_argument("--output", type=pathlib.Path, required=True, metavar="DIR", help="made if missing")
    parser.add_argument(
        "--val-fraction", type=float, default=0.0, metavar="F", help="part of the text for val.bin (default: 0)"
    )
    options = parser.parse_args(arguments)
    if not 0.0 <= options.val_fraction < 1.0:
        parser.error(f"--val-fraction must be at least 0 and below 1, not {options.val_fraction}")
    return options


def read_text(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PrepareError(f"{path}: not UTF-8 at byte {error.start}; convert it with iconv") from error


def character_tokenizer(texts: List[str]) -> Tuple[Tokenizer, List[str]]:
    characters = sorted(set().union(*texts))
    ids = {character: i for i, character in enumerate(characters)}
    return Tokenizer(lambda text: [ids[c] for c in text], len(characters), [], False), characters


def model_tokenizer(directory: pathlib.Path) -> Tokenizer:
    if not directory.is_dir():
        raise PrepareError(f"{directory}: no such directory; --model takes one that holds a tokenizer")
    # Where there are none, transformers makes up a tokenizer that drops every word.
    if not any((directory / name).is_file() for name in TOKENIZER_FILES):
        raise PrepareError(
            f"{directory}: holds no tokenizer ({', '.join(TOKENIZER_FILES)}); copy the files of the model's own"
        )
    if (directory / "tokenizer.json").is_file():
        try:
            return tokenizers_tokenizer(directory)
        except ImportError:
            pass  # transformers reads such a file too
    try:
        return transformers_tokenizer(directory)
    except ImportError as error:
        raise PrepareError(
            f"a tokenizer needs the Python package 'tokenizers' or 'transformers' ({error}); "
            "install one with: python3 -m pip install tokenizers transformers"
        ) from error


def tokenizers_tokenizer(directory: pathlib.Path) -> Tokenizer:
    import tokenizers

    path = directory / "tokenizer.json"
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises bare Exception
        raise PrepareError(f"{path}: not a tokenizer: {error}") from error
    end = tokenizer.token_to_id(end_of_text_name(directory))
    return Tokenizer(
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        tokenizer.get_vocab_size(),
        [] if end is None else [end],
        True,
    )


def end_of_text_name(directory: pathlib.Path) -> str:
    """The end-of-text token that tokenizer_config.json names, or GPT-2's."""
    path = directory / "tokenizer_config.json"
    token = json.loads(read_text(path)).get("eos_token") if path.is_file() else None
    if isinstance(token, dict):
        token = token.get("content")
    return token or "<|endoftext|>"


def transformers_tokenizer(directory: pathlib.Path) -> Tokenizer:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a directory is all there is to read
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError) as error:
        raise PrepareError(f"{directory}: holds no tokenizer that transformers can load: {error}") from error
    end = tokenizer.eos_token_id
    return Tokenizer(
        lambda text: tokenizer.encode(text, add_special_tokens=False),
        len(tokenizer),
        [] if end is None else [end],
        True,
    )


def chunks(text: str, at_newlines: bool) -> Iterator[str]:
    """Pieces of bounded length. Cut before a newline, where tokenizers cut as well."""
    begin = 0
    while begin < len(text):
        end = min(begin + CHUNK_CHARACTERS, len(text))
        if at_newlines and end < len(text):
            newline = text.rfind("\n", begin + 1, end)
            end = newline if newline > begin else end
        yield text[begin:end]
        begin = end


def encode(texts: Iterable[str], tokenizer: Tokenizer) -> Iterator[List[int]]:
    for i, text in enumerate(texts):
        if i > 0:
            yield tokenizer.separator
        for chunk in chunks(text, tokenizer.splits_at_newlines):
            yield tokenizer.encode(chunk)


def write_tokens(path: pathlib.Path, pieces: Iterable[List[int]], typecode: str) -> int:
    """Writes all or nothing; returns the number of tokens."""
    partial = path.with_name(f".{path.name}.partial")
    count = 0
    try:
        with open(partial, "wb") as file:
            for piece in pieces:
                tokens = array.array(typecode, piece)
                if sys.byteorder == "big":
                    tokens.byteswap()
                tokens.tofile(file)
                count += len(tokens)
        if count == 0:
            raise PrepareError(f"{path}: the tokenizer makes no token of the text")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def split_off_validation(texts: List[str], fraction: float) -> Tuple[List[str], List[str]]:
    """Cuts the last `fraction` of all characters off the end."""
    keep = round(sum(map(len, texts)) * (1.0 - fraction))
    train, validation = [], []
    for text in texts:
        train.append(text[:keep])
        validation.append(text[keep:])
        keep = max(0, keep - len(text))
    return [text for text in train if text], [text for text in validation if text]


def prepare(options: argparse.Namespace) -> None:
    texts = [text for text in map(read_text, options.inputs) if text]
    if not texts:
        raise PrepareError(f"{', '.join(map(str, options.inputs))}: no text")
    if options.char_level:
        tokenizer, characters = character_tokenizer(texts)
    else:
        tokenizer = model_tokenizer(options.model)
    wide = tokenizer.vocabulary_size > LARGEST_UINT16_VOCABULARY
    typecode, suffix = ("I", ".u32.bin") if wide else ("H", ".bin")

    train, validation = split_off_validation(texts, options.val_fraction)
    parts = [("train", train)] + ([("val", validation)] if options.val_fraction > 0.0 else [])
    for name, part in parts:
        if not part:
            raise PrepareError(f"--val-fraction {options.val_fraction} leaves no text for {name}{suffix}")
    options.output.mkdir(parents=True, exist_ok=True)
    for name, part in parts:
        path = options.output / (name + suffix)
        count = write_tokens(path, encode(part, tokenizer), typecode)
        print(f"{path}: {count} tokens of a vocabulary of {tokenizer.vocabulary_size}")
    if options.char_level:
        path = options.output / "meta.json"
        meta = {"vocab_size": len(characters), "characters": characters}
        path.write_text(json.dumps(meta, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{path}: the characters in the order of their ids")


def main(arguments: List[str]) -> int:
    options = parse_arguments(arguments)
    try:
        prepare(options)
    except (PrepareError, OSError) as error:
        print(f"prepare_tokens.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
