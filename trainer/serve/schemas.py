"""The requests of OpenAI's API. Known fields are checked strictly.

A null counts as absent and an unknown field is ignored, since clients send both.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from shared.text import one_line
from trainer.serve.errors import ApiError

MAX_MESSAGES = 1024
MAX_TOOLS = 128
MAX_CHOICES = 128  # n times the number of prompts
MAX_INPUTS = 2048  # texts to embed
MAX_STOPS = 16
MAX_STOP_LENGTH = 1000  # characters
MAX_TOP_LOGPROBS = 20

Prompt = str | tuple[int, ...]


def _wrong(name: str, expected: str) -> PydanticCustomError:
    return PydanticCustomError(
        "invalid_value", "{name}", {"name": f"Invalid '{name}': expected {expected}."}
    )


def _prompts(value: Any, name: str = "prompt") -> tuple[Prompt, ...]:
    """A text, token ids, or a list of either, as a tuple of prompts."""
    wanted = "a string, a list of token ids, or a list of either"
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not value:
        raise _wrong(name, wanted)
    if all(type(item) is int for item in value):
        return (tuple(value),)
    if all(isinstance(item, str) for item in value):
        return tuple(value)
    if all(
        isinstance(item, list) and item and all(type(token) is int for token in item)
        for item in value
    ):
        return tuple(tuple(item) for item in value)
    raise _wrong(name, wanted)


def _stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise _wrong("stop", "a string or a list of strings")
    if len(stops) > MAX_STOPS or any(len(stop) > MAX_STOP_LENGTH for stop in stops):
        raise _wrong("stop", f"at most {MAX_STOPS} strings of at most {MAX_STOP_LENGTH} characters")
    return tuple(stop for stop in stops if stop)


def _bias(value: Any) -> dict[int, float]:
    expected = "token ids as keys and numbers from -100 to 100 as values"
    if not isinstance(value, dict):
        raise _wrong("logit_bias", expected)
    table = {}
    for token, bias in value.items():
        number = isinstance(bias, int | float) and not isinstance(bias, bool)
        if not (number and -100 <= bias <= 100 and token.isascii() and token.isdigit()):
            raise _wrong("logit_bias", expected)
        if len(token) > 9:
            raise _wrong("logit_bias", expected)
        table[int(token)] = float(bias)
    return table


def _content(value: Any) -> str:
    """The text of a message, which may be split into parts."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise _wrong("messages.content", "a string or a list of text parts")
    texts = []
    for part in value:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        if not isinstance(text, str):
            raise _wrong("messages.content", "parts of the type 'text': this model only reads text")
        texts.append(text)
    return "".join(texts)


class _Lenient(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None}


class StreamOptions(_Lenient):
    """Options of a stream."""

    include_usage: bool = False


class JsonSchema(_Lenient):
    """A JSON schema by its name."""

    name: str
    schema_: dict[str, Any] | None = Field(None, alias="schema")


class ResponseFormat(_Lenient):
    """The format of an answer; `schema` beside `json_object` is llama.cpp's way to give one."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")

    @model_validator(mode="after")
    def _possible(self) -> ResponseFormat:
        if self.type == "json_schema" and self.json_schema is None:
            raise _wrong("response_format.json_schema", "an object with 'name' and 'schema'")
        return self


def _choices(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(choice, str) for choice in value):
        raise _wrong("choice", "a list of strings")
    if not any(value):
        raise _wrong("choice", "at least one string that is not empty")
    return tuple(value)


Choices = Annotated[tuple[str, ...], PlainValidator(_choices)]


class StructuredOutputs(_Lenient):
    """vLLM's ways to say what an answer has to be."""

    json_: dict[str, Any] | str | None = Field(None, alias="json")
    json_object: bool = False
    regex: str | None = None
    choice: Choices | None = None
    grammar: str | None = None


class _Request(_Lenient):
    """The fields of both endpoints.

    `top_k` (0 and -1: off), `min_p`, `repetition_penalty`, `ignore_eos`, `structured_outputs` and
    `guided_…` are extensions of other servers.
    """

    model: str = ""
    max_tokens: int | None = Field(None, ge=0)
    max_completion_tokens: int | None = Field(None, ge=0)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, ge=0, le=1)
    top_k: int = Field(0, ge=-1)
    min_p: float = Field(0.0, ge=0, le=1)
    n: int = Field(1, ge=1, le=MAX_CHOICES)
    stop: Annotated[tuple[str, ...], PlainValidator(_stops)] = ()
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    repetition_penalty: float = Field(1.0, gt=0, le=10)
    logit_bias: Annotated[dict[int, float], PlainValidator(_bias)] = Field(default_factory=dict)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    ignore_eos: bool = False
    response_format: ResponseFormat = ResponseFormat()
    structured_outputs: StructuredOutputs = StructuredOutputs()
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: Choices | None = None
    guided_grammar: str | None = None

    @property
    def limit(self) -> int | None:
        """The limit of new tokens, under either name."""
        newer = self.max_completion_tokens
        return self.max_tokens if newer is None else newer


class CompletionRequest(_Request):
    """`POST /v1/completions`. Without a prompt the model begins a new text.

    With `parse_special` the spelling of a special token in a text is that token.
    """

    prompt: Annotated[tuple[Prompt, ...], PlainValidator(_prompts)] = ("",)
    logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    echo: bool = False
    best_of: int | None = Field(None, ge=1)
    suffix: str = ""
    parse_special: bool = False

    @model_validator(mode="after")
    def _possible(self) -> CompletionRequest:
        if len(self.prompt) * self.n > MAX_CHOICES:
            raise _wrong("n", f"at most {MAX_CHOICES} choices, which is n times the prompts")
        if self.best_of is not None and self.best_of != self.n:
            raise _wrong("best_of", "the value of n: this server returns all it generates")
        if self.suffix:
            raise _wrong("suffix", "nothing: this model cannot fill in the middle")
        return self


class FunctionCall(_Lenient):
    """A call in the history; `arguments` is JSON."""

    name: str
    arguments: str = "{}"


class ToolCall(_Lenient):
    """A call in the history, with the id that its answer refers to."""

    id: str = ""
    type: Literal["function"] = "function"
    function: FunctionCall


class Function(_Lenient):
    """A function the model may call; `parameters` is a JSON schema."""

    name: str = Field(min_length=1, max_length=64)
    description: str = ""
    parameters: dict[str, Any] | None = None


class Tool(_Lenient):
    """A tool; functions are the only kind."""

    type: Literal["function"] = "function"
    function: Function


class ChatMessage(_Lenient):
    """One message. `developer` is the newer name for `system`."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str, PlainValidator(_content)] = ""
    tool_calls: list[ToolCall] = Field(default_factory=list)
    tool_call_id: str = ""
    name: str = ""


class ChatRequest(_Request):
    """`POST /v1/chat/completions`.

    `truncation` is that of OpenAI's Responses API: "auto" leaves out the oldest turns that do not
    fit the context.
    """

    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    tools: list[Tool] = Field(default_factory=list, max_length=MAX_TOOLS)
    tool_choice: Any = None
    truncation: Literal["auto", "disabled"] = "disabled"

    @model_validator(mode="after")
    def _possible(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise _wrong("top_logprobs", "logprobs to be true with it")
        names = [tool.function.name for tool in self.tools]
        if len(set(names)) < len(names):
            raise _wrong("tools", "functions with different names")
        if self.tool_choice not in (None, "none", "auto"):
            if not self.tools:
                raise _wrong("tool_choice", "'none' or 'auto', since no tools are given")
            if self.tool_choice != "required" and self._named not in names:
                raise _wrong(
                    "tool_choice",
                    "'none', 'auto', 'required' or the name of one of the tools, as "
                    '{"type": "function", "function": {"name": …}}',
                )
        return self

    @property
    def _named(self) -> str | None:
        choice = self.tool_choice
        function = choice.get("function") if isinstance(choice, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        return name if isinstance(name, str) else None

    @property
    def offered(self) -> list[Tool]:
        """The tools the model is told about."""
        return [] if self.tool_choice == "none" else self.tools

    @property
    def forced(self) -> list[Tool]:
        """The tools of which the model has to call one; none if it may do without."""
        if self.tool_choice == "required":
            return self.tools
        return [tool for tool in self.offered if tool.function.name == self._named]


class EmbeddingRequest(_Lenient):
    """`POST /v1/embeddings`."""

    model: str = ""
    input: Annotated[tuple[Prompt, ...], PlainValidator(lambda value: _prompts(value, "input"))]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _possible(self) -> EmbeddingRequest:
        if len(self.input) > MAX_INPUTS:
            raise _wrong("input", f"at most {MAX_INPUTS} texts")
        return self


class TokenizeRequest(_Lenient):
    """`POST /tokenize`: a text or a conversation."""

    model: str = ""
    prompt: str | None = None
    messages: list[ChatMessage] | None = Field(None, min_length=1, max_length=MAX_MESSAGES)
    tools: list[Tool] = Field(default_factory=list, max_length=MAX_TOOLS)
    add_generation_prompt: bool = True
    add_special_tokens: bool = True
    parse_special: bool = False
    return_token_strs: bool = False

    @model_validator(mode="after")
    def _possible(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise _wrong("prompt", "either 'prompt' or 'messages'")
        return self


class DetokenizeRequest(_Lenient):
    """`POST /detokenize`."""

    model: str = ""
    tokens: list[int]


AnyRequest = TypeVar(
    "AnyRequest",
    CompletionRequest,
    ChatRequest,
    EmbeddingRequest,
    TokenizeRequest,
    DetokenizeRequest,
)


def parse(body: bytes, kind: type[AnyRequest]) -> AnyRequest:
    """The request in `body`. Raises ApiError 400 naming the wrong parameter."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"The body is not valid JSON: {one_line(error)}.") from None
    if not isinstance(data, dict):
        raise ApiError(400, "The body is not a JSON object.")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise _as_api_error(error.errors(include_url=False)[0]) from None


_EXPECTED = {
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "string": "a string",
    "list": "an array",
    "model": "an object",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "a value >= {}"),
    "greater_than": ("gt", "a value > {}"),
    "less_than_equal": ("le", "a value <= {}"),
    "less_than": ("lt", "a value < {}"),
    "too_short": ("min_length", "at least {} items"),
    "too_long": ("max_length", "at most {} items"),
}


def _as_api_error(error: ErrorDetails) -> ApiError:
    """One of pydantic's errors in OpenAI's wording."""
    kind, value, context = error["type"], error["input"], error.get("ctx") or {}
    param = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error["loc"]).lstrip(".")
    if kind == "missing":
        return ApiError(
            400,
            f"Missing required parameter: '{param}'.",
            param=param,
            code="missing_required_parameter",
        )
    if kind == "invalid_value":
        message = str(context["name"])
        return ApiError(400, message, param=param or message.split("'")[1], code="invalid_value")
    if kind in _BOUNDS:
        key, bound = _BOUNDS[kind]
        expected = bound.format(context[key])
        got = len(value) if isinstance(value, list) else one_line(value, 60)
        message = f"Invalid '{param}': expected {expected}, but got {got} instead."
        return ApiError(400, message, param=param, code="invalid_value")
    if kind == "literal_error":
        message = (
            f"Invalid value for '{param}': {one_line(repr(value), 60)}; supported values are "
            f"{context['expected']}."
        )
        return ApiError(400, message, param=param, code="invalid_value")
    expected = next((word for k, word in _EXPECTED.items() if kind.startswith(k)), "another value")
    message = (
        f"Invalid type for '{param}': expected {expected}, but got {_json_type(value)} instead."
    )
    return ApiError(400, message, param=param, code="invalid_type")


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "a boolean"
    kinds = {int: "an integer", float: "a number", str: "a string", list: "an array"}
    return kinds.get(type(value), "an object")
