"""What a request's answer has to be: JSON, JSON of a schema, or text of a grammar."""

from __future__ import annotations

import json
from typing import Any

from shared.errors import UserError
from trainer.generate.batched.grammar import GrammarText
from trainer.generate.batched.job import Grammar
from trainer.serve.errors import ApiError
from trainer.serve.schemas import ChatRequest, CompletionRequest, StructuredOutputs
from trainer.serve.served import Served

ANY_OBJECT = {"type": "object"}


def grammar_of(request: CompletionRequest | ChatRequest, served: Served) -> Grammar | None:
    """The grammar of the answer, None for free text. Raises ApiError for one that cannot be."""
    found = [*_of_format(request), *_of_structured(request), *_of_guided(request)]
    if not found:
        return None
    if len(found) > 1:
        names = " and ".join(f"'{param}'" for param, _ in found[:2])
        raise ApiError(
            400, f"An answer can follow one format: give either {names}.", param=found[1][0]
        )
    ((param, wanted),) = found
    return compiled(wanted, served, param)


def compiled(wanted: GrammarText, served: Served, param: str) -> Grammar:
    """The grammar for the served model. Raises ApiError with the reason if that is impossible."""
    ends = served.engine.end_ids | served.template.stop_ids
    try:
        return served.engine.grammar(wanted, ends)
    except UserError as error:
        raise ApiError(
            400, f"Invalid '{param}': {error}", param=param, code="invalid_value"
        ) from None


def schema_text(schema: Any) -> GrammarText:
    """JSON of a schema."""
    return GrammarText("json_schema", json.dumps(schema))


def _of_format(request: CompletionRequest | ChatRequest) -> list[tuple[str, GrammarText]]:
    wanted = request.response_format
    if wanted.type == "text":
        return []
    schema = wanted.schema_ or ANY_OBJECT
    if wanted.json_schema is not None and wanted.json_schema.schema_ is not None:
        schema = wanted.json_schema.schema_
    return [("response_format", schema_text(schema))]


def _of_structured(request: CompletionRequest | ChatRequest) -> list[tuple[str, GrammarText]]:
    wanted = request.structured_outputs
    return [(f"structured_outputs.{name}", text) for name, text in _texts(wanted)]


def _of_guided(request: CompletionRequest | ChatRequest) -> list[tuple[str, GrammarText]]:
    older = StructuredOutputs.model_construct(
        json_=request.guided_json,
        regex=request.guided_regex,
        choice=request.guided_choice,
        grammar=request.guided_grammar,
    )
    return [(f"guided_{name}", text) for name, text in _texts(older)]


def _texts(wanted: StructuredOutputs) -> list[tuple[str, GrammarText]]:
    found: list[tuple[str, GrammarText]] = []
    if wanted.json_ is not None:
        text = wanted.json_
        known = GrammarText("json_schema", text) if isinstance(text, str) else schema_text(text)
        found.append(("json", known))
    if wanted.json_object:
        found.append(("json_object", schema_text(ANY_OBJECT)))
    if wanted.regex is not None:
        found.append(("regex", GrammarText("regex", wanted.regex)))
    if wanted.choice is not None:
        found.append(("choice", GrammarText("choice", json.dumps(wanted.choice))))
    if wanted.grammar is not None:
        found.append(("grammar", GrammarText("grammar", wanted.grammar)))
    return found
