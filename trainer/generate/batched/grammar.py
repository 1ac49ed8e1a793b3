"""Keeping a job's text to a grammar with llguidance: which tokens may come next.

It works on the bytes of the tokens, so a token may end anywhere: within a character, a word or a
rule of the grammar.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from shared.errors import RunError, UserError
from shared.text import one_line

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

GrammarKind = Literal["json_schema", "regex", "choice", "grammar"]

#: Bounded, since a model fond of blanks would write nothing else.
WHITESPACE = r"(\n[ \t]{0,24}|[ ]?)"
CACHED = 64  # compiled grammars


@dataclass(frozen=True)
class GrammarText:
    """What a text has to be: JSON of a schema, a match of a regular expression, one of a JSON list
    of strings, or a sentence of a grammar in Lark's or llama.cpp's notation (GBNF)."""

    kind: GrammarKind
    text: str


class GrammarCompiler:
    """Compiles grammars for one vocabulary, whose tokens have these bytes. Safe in threads."""

    def __init__(self, tokens: Sequence[bytes], special_ids: frozenset[int]) -> None:
        self._vocabulary = _Vocabulary(tokens, special_ids)
        self._lock = threading.Lock()
        self._tokenizers: dict[frozenset[int], LLTokenizer] = {}
        self._compiled: dict[tuple[GrammarText, frozenset[int]], CompiledGrammar] = {}

    def compile(self, wanted: GrammarText, ends: frozenset[int]) -> CompiledGrammar:
        """The grammar; a text that is complete may end with one of `ends`.

        Raises UserError for a grammar that is wrong, or has what llguidance cannot do.
        """
        key = (wanted, ends)
        with self._lock:
            if key not in self._compiled:
                if len(self._compiled) >= CACHED:
                    self._compiled.pop(next(iter(self._compiled)))
                self._compiled[key] = self._compile(wanted, ends)
            return self._compiled[key]

    def _compile(self, wanted: GrammarText, ends: frozenset[int]) -> CompiledGrammar:
        try:
            from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
        except ImportError:
            raise UserError(
                'Structured output needs llguidance: `pip install "train-monitor[trainer]"`.'
            ) from None
        if ends not in self._tokenizers:
            size = len(self._vocabulary.tokens)
            known = sorted(end for end in ends if end < size)
            self._vocabulary.eos_token_id = known[0]
            wrapper = TokenizerWrapper(self._vocabulary)
            self._tokenizers[ends] = LLTokenizer(wrapper, n_vocab=size, eos_token=known)
        tokenizer = self._tokenizers[ends]
        try:
            source = _source(wanted)
            wrong, messages = LLMatcher.validate_grammar_with_warnings(source, tokenizer)
        except ValueError as error:
            wrong, messages = True, [str(error)]
        if wrong:
            raise UserError(f"{one_line(messages[0], 300).rstrip('.')}.")
        return CompiledGrammar(wanted, LLMatcher(tokenizer, source), len(self._vocabulary.tokens))


def _source(wanted: GrammarText) -> str:
    """The grammar in llguidance's own notation. Raises ValueError."""
    from llguidance import LLMatcher, grammar_from

    if wanted.kind == "json_schema":
        options: Any = {"whitespace_pattern": WHITESPACE}
        return LLMatcher.grammar_from_json_schema(wanted.text, overrides=options)
    if wanted.kind == "choice":
        choices = [choice for choice in json.loads(wanted.text) if choice]
        return LLMatcher.grammar_from_lark("start: " + " | ".join(map(json.dumps, choices)))
    return grammar_from(wanted.kind, wanted.text)


class CompiledGrammar:
    """A grammar, ready for any number of texts."""

    def __init__(self, wanted: GrammarText, start: LLMatcher, vocabulary: int) -> None:
        self.wanted = wanted
        self._start = start
        self._vocabulary = vocabulary

    def matcher(self) -> GrammarMatcher:
        """What may come in a new text."""
        return GrammarMatcher(self._start.deep_copy(), self._vocabulary)


class GrammarMatcher:
    """One text, as far as it has come."""

    def __init__(self, inner: LLMatcher, vocabulary: int) -> None:
        self._inner = inner
        self._vocabulary = vocabulary

    def allowed(self) -> NDArray[np.bool_]:
        """Which tokens may come next, (V,); an end token only if the text is complete.

        Raises RunError when the grammar takes too much to follow.
        """
        bits = np.frombuffer(self._inner.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, count=self._vocabulary, bitorder="little").astype(np.bool_)
        if self._inner.is_error() or not allowed.any():
            why = one_line(self._inner.get_error(), 200) or "no token can come next"
            raise RunError(f"The text cannot be kept to its grammar: {why}.")
        return allowed

    def accept(self, token: int) -> None:
        """Append a token that is allowed."""
        self._inner.consume_token(token)

    @property
    def complete(self) -> bool:
        """Whether the text is complete and nothing can follow."""
        return self._inner.is_stopped() and not self._inner.is_error()


class _Vocabulary:
    """What llguidance has to know of a tokenizer."""

    bos_token_id = None
    eos_token_id = 0

    def __init__(self, tokens: Sequence[bytes], special_ids: frozenset[int]) -> None:
        self.tokens = list(tokens)
        self.special_token_ids = sorted(special_ids)
        self._longest = max(map(len, tokens))
        self._ids = {
            token: index
            for index, token in reversed(list(enumerate(tokens)))
            if token and index not in special_ids
        }

    def __call__(self, text: bytes | str) -> list[int]:
        """Some tokens of `text`: the longest at every place. Only llguidance's hints use it."""
        data = text.encode() if isinstance(text, str) else text
        ids, place = [], 0
        while place < len(data):
            for end in range(min(len(data), place + self._longest), place, -1):
                if data[place:end] in self._ids:
                    ids.append(self._ids[data[place:end]])
                    break
            else:
                end = place + 1
            place = end
        return ids
