"""What Python answers are worth: right and wrong ones, and those that only want the points."""

from __future__ import annotations

import os
import signal
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from trainer.rewards.interface import Answer, Verdict
from trainer.rewards.python.language import Python
from trainer.rewards.python.program import end_of_answer
from trainer.sandbox.sandbox import Sandbox
from trainer.tasks.prompt import Prompt

ADD = Prompt(
    id="add",
    prompt='import math\n\n\ndef add(a: int, b: int) -> int:\n    """Adds two numbers."""\n',
    language="python",
    signature="def add(a: int, b: int) -> int",
    tests="def check(candidate):\n"
    "    assert candidate(1, 2) == 3\n"
    "    assert candidate(-2, 2) == 0\n"
    "    assert math.isclose(candidate(4, 5), 9)\n\ncheck(add)\n",
)
UNTESTED = Prompt(id="untested", prompt=ADD.prompt, language="python", signature=ADD.signature)


@pytest.fixture(scope="module")
def judge() -> Iterator[Python]:
    with Sandbox(parallel=4) as sandbox:
        if not sandbox.may_execute:
            pytest.skip(f"needs a sandbox that contains tests: {sandbox.layers.lacking}")
        yield Python(sandbox, runs_tests=True)


def _judge(judge: Python, prompt: Prompt, *bodies: str) -> list[Verdict]:
    verdicts = judge.judge([Answer(prompt, body) for body in bodies])
    for verdict in verdicts:
        assert tuple(verdict.parts) == judge.parts
        assert verdict.reward == pytest.approx(sum(verdict.parts.values()))
        assert 0 <= verdict.reward <= 1
    return verdicts


def test_the_better_an_answer_the_more_it_is_worth(judge: Python):
    verdicts = _judge(
        judge,
        ADD,
        "    return a + b\n",
        "    return a + b if a > 0 else 1\n",  # two of three parts pass
        "    return a - b\n",
        "    return a + c\n",
        "    return a +* b\n",
        "    return\n",
    )
    rewards = [verdict.reward for verdict in verdicts]
    assert rewards[0] == 1
    assert rewards == sorted(set(rewards), reverse=True)
    assert rewards[-1] == 0
    assert [verdict.tested for verdict in verdicts[:4]] == [True, False, False, None]
    assert [verdict.compiled for verdict in verdicts] == [True, True, True, False, False, False]
    assert [verdict.parsed for verdict in verdicts] == [True] * 4 + [False] * 2
    assert "c is not defined" in verdicts[3].messages


#: Answers that want points without doing what was asked. None of them is worth anything.
REFUSED = {
    "nothing": "",
    "white space": "    \n\n",
    "comment": "    # adds a and b\n",
    "pass": "    pass\n",
    "ellipsis": "    ...\n",
    "the docstring again": '    """Adds two numbers."""\n',
    "not implemented": "    raise NotImplementedError\n",
    "not implemented, said": "    raise NotImplementedError('todo')\n",
    "nothing returned": "    return None\n",
    "an endless loop": "    while True:\n        pass\n",
    "pass in branches": "    if True:\n        pass\n    else:\n        ...\n",
    "a try around nothing": "    try:\n        pass\n    except ValueError:\n        pass\n",
    "an inner function": "    def inner():\n        return a + b\n",
    "only itself": "    return add(a, b)\n",
    "only itself, twice": "    return add(b, a) + add(a, b)\n",
    "only itself, either way": "    if a:\n        return add(a, b)\n    return add(b, a)\n"
    .replace("    return add(b, a)", "    else:\n        return add(b, a)"),
    "eval": "    return eval('a + b')\n",
    "exec": "    exec('x = a + b')\n    return a + b\n",
    "ends the process": "    import os\n    os._exit(0)\n    return a + b\n",
    "sys.exit": "    import sys\n    sys.exit(0)\n    return a + b\n",
    "exit": "    exit(0)\n    return a + b\n",
    "SystemExit": "    raise SystemExit(0)\n",
    "looks at its callers": "    import inspect\n    return inspect.stack()[1]\n",
    "frames": "    return (lambda: a + b).__globals__\n",
    "subclasses": "    return ().__class__.__base__.__subclasses__()[a + b]\n",
    "built-ins by name": "    return globals()['__builtins__'] and a + b\n",
    "a hidden module": "    import json\n    return json.codecs.builtins.exec('a + b')\n",
    "an inner import": "    from random import _os\n    return a + b\n",
    "changes a module": "    math.isclose = lambda *x: True\n    return a + b\n",
    "changes a built-in": "    global abs\n    abs = lambda x: 0\n    return a + b\n",
    "reads the tests": "    return int(open('asked.json').read()) + a + b\n",
    "a process": "    import subprocess\n    subprocess.run(['true'])\n    return a + b\n",
    "ctypes": "    import ctypes\n    return a + b\n",
    "a constant": "    return 3\n",
    "a constant, after a look": "    a, b\n    return 3\n",
    "a constant, after telling": "    print(a, b)\n    assert a <= b or a > b\n    return 3\n",
    "a constant, after keeping": "    kept = [a, str(b)]\n    del a\n    return 3\n",
    "the debugger": "    breakpoint()\n    return a + b\n",
}  # fmt: skip


def test_no_known_trick_is_worth_anything(judge: Python):
    verdicts = _judge(judge, ADD, *REFUSED.values())
    assert {
        name: verdict.reward
        for name, verdict in zip(REFUSED, verdicts, strict=True)
        if verdict.reward > 0.01
    } == {}
    assert not any(verdict.compiled for verdict in verdicts)


#: Whole programs: what comes beside the function, or instead of it.
PROGRAMS = {
    "another check": "def check(candidate):\n    pass\n\n\ndef add(a, b):\n    return a - b\n",
    "a built-in of its own": "def abs(x):\n    return 0\n\n\ndef add(a, b):\n    return a - b\n",
    "what is asserted": "AssertionError = ValueError\n\n\ndef add(a, b):\n    return a - b\n",
    "no function": "print('all tests passed')\n",
    "another function": "def sub(a, b):\n    return a - b\n",
    "a parameter more": "def add(a, b, c=0):\n    return a + b\n",
    "twice": "def add(a, b):\n    return a + b\n\n\ndef add(a, b):\n    return a + b\n",
    "a class": "class add:\n    def __new__(cls, a, b):\n        return a + b\n",
}


def test_programs_that_are_not_what_was_asked_for_do_not_compile(judge: Python):
    whole = Prompt("add", "", "python", "def add(a: int, b: int) -> int", ADD.tests)
    verdicts = _judge(judge, whole, *PROGRAMS.values())
    assert [name for name, v in zip(PROGRAMS, verdicts, strict=True) if v.compiled] == []
    assert max(verdict.reward for verdict in verdicts) < 0.5


#: Code that compiles, and would pass tests that run in its own process.
CHEATS = {
    "equals everything": """
        class Equal:
            def __eq__(self, other):
                return True
            def __sub__(self, other):
                return 0
        def add(a, b):
            return Equal() if a > b else Equal()
    """,
    "an integer that equals everything": """
        class Equal(int):
            def __eq__(self, other):
                return True
            __hash__ = int.__hash__
        def add(a, b):
            return Equal(a * b)
    """,
    "ends the process as it can": """
        import time
        def add(a, b):
            def deep(n):
                return deep(n + 1) + a + b
            return deep(0)
    """,
    "a module of its own": """
        class math:
            isclose = lambda *numbers: True
        def add(a, b):
            return a - b + 1
    """,
    "says that it passed": """
        def add(a, b):
            for n in range(20):
                print('passed', n, a, b)
            return None or str(a)
    """,
}


def test_what_would_deceive_tests_in_its_own_process_does_not_deceive_these(judge: Python):
    whole = Prompt("add", "", "python", "def add(a, b)", ADD.tests)
    verdicts = _judge(judge, whole, *map(textwrap.dedent, CHEATS.values()))
    passed = {
        name: v.messages for name, v in zip(CHEATS, verdicts, strict=True) if v.tested is not False
    }
    assert passed == {}
    assert all(verdict.parts["tests"] == 0 for verdict in verdicts)


def test_an_answer_with_all_rights_of_python_cannot_reach_the_tests(judge: Python):
    """The rules are one wall, the process is another: here the prompt's part breaks the rules."""
    given = """
        import os, sys, ctypes, signal, builtins
        builtins.AssertionError = ValueError
        found = []
        for path in ("asked.json", f"/proc/{os.getppid()}/mem", f"/proc/{os.getppid()}/fd/3",
                     f"/proc/{os.getppid()}/environ"):
            try:
                found.append(open(path, "rb").read())
            except OSError:
                pass
        for fd in range(64):
            try:
                os.write(fd, b"passed 0\\n")
            except OSError:
                pass
        libc = ctypes.CDLL(None)
        libc.ptrace(16, os.getppid(), 0, 0)
        def add(a, b):
    """
    prompt = Prompt("add", textwrap.dedent(given), "python", "def add(a, b)", ADD.tests)
    (verdict,) = _judge(judge, prompt, "    return len(found) * 100 + a - b\n")
    assert verdict.compiled
    assert verdict.tested is False
    assert verdict.parts["tests"] == 0


#: Tests of several kinds, with an answer that passes them and one that does not.
KINDS = {
    "asserts": ("assert f(2) == 4\nassert f([1]) == [1, 1]\n", "return 2 * x", "return x"),
    "functions": ("def test_it():\n    assert f(2) == 4\n", "return 2 * x", "return x"),
    "a test case": (
        ("import unittest\nclass T(unittest.TestCase):\n    def test_it(self):\n"
        "        self.assertEqual(f(2), 4)\n        with self.assertRaises(ValueError):\n"
        "            f(-1)\n"),
        "if x < 0:\n        raise ValueError('negative')\n    return 2 * x",
        "return 2 * x",
    ),
    "an error is wanted": (
        "try:\n    f(0)\n    assert False\nexcept ZeroDivisionError:\n    pass\n",
        "return 1 / x",
        "return x",
    ),
    "a list is changed": (
        "data = [3, 1]\nf(data)\nassert data == [1, 3]\n", "x.sort()", "x.reverse() or x.clear()"
    ),
    "a function is given": (
        "assert f(lambda n: n + 1) == [1, 2]\n", "return [x(0), x(1)]", "return [x(0)]"
    ),
    "a generator": (
        "assert list(f(3)) == [0, 1, 2]\nassert next(iter(f(1))) == 0\n",
        "yield from range(x)",
        "yield x",
    ),
    "a class of the answer": (
        ("thing = f(2)\nassert thing.double() == 4\nassert len(thing) == 2\nthing.n = 5\n"
        "assert thing.n == 5\nassert f(1) == f(1)\n"),
        ("class C:\n        n = x\n        def double(self):\n            return 2 * x\n"
        "        def __len__(self):\n            return x\n"
        "        def __eq__(self, other):\n            return self.n == other.n\n    return C()"),
        "return [x]",
    ),
    "plain data of all kinds": (
        ("for value in (None, 1.5, 2j, 'é', b'x', (1, [2]), {3: {4}}, frozenset([5]), 10**50):\n"
        "    assert f(value) == value and type(f(value)) is type(value)\n"),
        "return x",
        "return str(x)",
    ),
    "no assertion at all": ("f(3)\n", "return x", "return x.no"),
}  # fmt: skip


def test_tests_of_many_kinds_are_run(judge: Python):
    prompts = [
        Prompt(name, "def f(x):\n", "python", "def f(x)", tests)
        for name, (tests, _, _) in KINDS.items()
    ]
    right = [Answer(p, f"    {KINDS[p.id][1]}\n") for p in prompts]
    wrong = [Answer(p, f"    {KINDS[p.id][2]}\n") for p in prompts]
    verdicts = judge.judge([*right, *wrong])
    for prompt, good, bad in zip(
        prompts, verdicts[: len(prompts)], verdicts[len(prompts) :], strict=True
    ):
        assert good.tested is True, (prompt.id, good.messages)
        assert bad.tested is False, (prompt.id, bad.messages)


def test_an_answer_that_ends_the_compiler_ends_nothing_else(judge: Python):
    deep = "    return " + "(" * 100_000 + "a" + ")" * 100_000 + "\n"
    nested = "    return " + "-" * 50_000 + "a\n"
    verdicts = _judge(
        judge,
        UNTESTED,
        deep,
        nested,
        "    return a\0b\n",
        "    return a + b\n",
        "\ud800",
        "x" * 9999,
    )
    assert [verdict.compiled for verdict in verdicts] == [False, False, False, True, False, False]
    assert verdicts[3].tested is None


def test_a_launcher_that_dies_costs_no_verdict():
    with Sandbox(parallel=1) as sandbox, ThreadPoolExecutor() as pool:
        judge = Python(sandbox, runs_tests=False)
        judging = pool.submit(judge.judge, [Answer(ADD, "    return a + b\n")])
        os.kill(sandbox.launcher_pid, signal.SIGKILL)
        (verdict,) = judging.result()
    assert verdict.compiled


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("    return 1\n\nprint(2)\n", "    return 1\n\n"),
        ("    return 1\n\n\ndef g():\n    pass\n", "    return 1\n\n\n"),
        ("    return 1\n", None),
        ("    x = [\n1,\n2,\n]\n    return x\n", None),
        ('    """\ntext\n"""\n    return 1\nend\n', '    """\ntext\n"""\n    return 1\n'),
        (
            "    return 'it''s'\n# a comment\n    pass\nx = 1\n",
            "    return 'it''s'\n# a comment\n    pass\n",
        ),
        ("    return (1\ndef g():\n", "    return (1\n"),
        ("    return '# not a comment'\nx\n", "    return '# not a comment'\n"),
        ("", None),
        ("return 1", None),
    ],
)
def test_an_answer_ends_where_its_function_does(completion: str, answer: str | None):
    end = end_of_answer(completion)
    assert (None if end is None else completion[:end]) == answer


def test_quality_is_measured_in_the_sandbox_and_one_answer_costs_no_other(judge: Python):
    deep = "    return " + "(" * 100_000 + ")" * 100_000 + "\n"
    bodies = ("    return a + b if a else b\n", deep, "    return sum([a, b])\n")
    plain, lost, idiomatic = judge.measure([Answer(ADD, body) for body in bodies])
    assert plain is not None and (plain.complexity, plain.iterators) == (2, False)
    assert lost is None
    assert idiomatic is not None and (idiomatic.complexity, idiomatic.iterators) == (1, True)


def test_a_known_answer_is_not_judged_again():
    with Sandbox() as sandbox:
        judge = Python(sandbox, runs_tests=False, remembered=2)
        bodies = ("    return a + b\n", "    return a - b\n")
        first = _judge(judge, UNTESTED, *bodies, *bodies)
        sandbox.close()
        assert _judge(judge, UNTESTED, *bodies) == first[:2] == first[2:]
        with pytest.raises(RuntimeError, match="closed"):
            _judge(judge, UNTESTED, "    return b - a\n")
