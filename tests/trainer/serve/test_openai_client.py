"""The API through the real `openai` client."""

from __future__ import annotations

import openai


def test_a_completion(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt="def ", max_tokens=12, temperature=0)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.model == "tiny"
    assert answer.system_fingerprint.startswith("fp_")
    (choice,) = answer.choices
    assert choice.finish_reason == "length"
    assert choice.logprobs is None
    assert answer.usage.prompt_tokens == 4
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == 16
