"""LangChain's structured output and tools, through the real API.

The model has random weights, so an answer has its shape from the grammar alone.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, Field

from tests.trainer.serve.conftest import Running, running
from tests.trainer.serve.test_structured import served_model

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("langchain_openai") is None, reason="langchain-openai is not installed"
)


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=6)
    age: int = Field(ge=0, le=150)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """A random model without a template of its own."""
    with running(lambda: served_model("bpe", context=4096, slots=2)) as found:
        yield found


@pytest.fixture
def model(server: Running) -> Any:
    """LangChain's chat model of it."""
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(
        model="wild", base_url=f"{server.url}/v1", api_key="none", seed=1, max_tokens=300
    )


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain_gets_an_object_of_the_class(model: Any, method: str) -> None:
    found = model.with_structured_output(Person, method=method).invoke("Who?")
    assert isinstance(found, Person)
    assert len(found.name) <= 6 and 0 <= found.age <= 150


def test_langchain_gets_json(model: Any) -> None:
    wanted = model.with_structured_output(None, method="json_mode", include_raw=True)
    answer = wanted.invoke("Some JSON, please.")
    # A random model may not find the end of an object; what came began as one.
    assert answer["raw"].content.lstrip().startswith("{")


def test_langchain_calls_a_tool_and_tells_its_answer(model: Any) -> None:
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool

    @tool
    def weather(days: int) -> str:
        """The weather of the next days."""
        return f"rain for {days} days"

    asked = [HumanMessage("Weather?")]
    called = model.bind_tools([weather], tool_choice="weather").invoke(asked)
    (call,) = called.tool_calls
    assert call["name"] == "weather" and isinstance(call["args"]["days"], int)
    told = ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])
    assert isinstance(model.invoke([*asked, called, told]).content, str)


def test_langchain_streams(model: Any) -> None:
    pieces = [piece.content for piece in model.stream("Go on.", max_tokens=8)]
    assert "".join(pieces)
