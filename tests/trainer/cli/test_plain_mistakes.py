"""A plain mistake is told before torch is loaded, which takes seconds on a busy machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.distributed.present import certainly_without_cuda

SYNTHETIC = "train --config tiny-cpu --dataset synthetic"
#: Command lines, and a part of the message that names the mistake.
MISTAKES = {
    "train": "needs to know what to train",
    "train --config nonsense": "nonsense",
    "tasks make --output made --count 500000000": "is more than 100,000",
    "train --config bad.yaml": "bad.yaml is not valid YAML",
    "train --config wrong.yaml": "model.nonsense",
    "train --config tiny-cpu --data-path missing": "missing does not exist",
    "train --config tiny-cpu --data-path pipe": "pipe is not a file",
    "train --config tiny-cpu --data-path empty": "empty has no train.bin",
    "train --config tiny-cpu --data-path a.txt": "`trainer prepare-data --text",
    "train --data missing.txt": "missing.txt does not exist",
    "train --data a.txt --val-data-path missing": "missing does not exist",
    "train --data a.txt --data-path x": "are both given",
    "train --data a.txt --resume done": "are both given",
    "train --data a.txt --epochs 1 --max-steps 1": "are both given",
    "train --data a.txt --begin-from nonsense": "There is no run 'nonsense'",
    "train --data a.txt --begin-from empty": "is not a checkpoint",
    "train --decay-from nonsense": "There is no run 'nonsense'",
    "train --resume nonsense": "There is no run 'nonsense'",
    f"{SYNTHETIC} --device tpu": "'tpu' is not auto",
    f"{SYNTHETIC} --dtype int8": "int8",
    f"{SYNTHETIC} --max-steps -1": "max_steps is -1",
    f"{SYNTHETIC} --set model.nonsense=3": "model.nonsense",
    f"{SYNTHETIC} --set optim.groups=[{{}}]": "optim.groups.0.optimizer is missing",
    f"{SYNTHETIC} --checkpoint-dir a.txt/x": "a.txt is not a folder",
    f"{SYNTHETIC} --name //": "'//'",
    f"{SYNTHETIC} --detach --queue": "--detach and --queue are both given",
    f"{SYNTHETIC} --nproc-per-node 2 --set train.batch_size=1": "too few for 2 ranks",
    f"{SYNTHETIC} --nproc-per-node 99 --dry-run": "too few for 99 ranks",
    f"{SYNTHETIC} --nproc-per-node 99 --detach": "too few for 99 ranks",
    f"{SYNTHETIC} --nproc-per-node 99 --queue": "too few for 99 ranks",
    f"{SYNTHETIC} --nnodes 9 --rdzv-endpoint a:1 --dry-run": "too few for 9 ranks",
    f"{SYNTHETIC} --nnodes 0 --dry-run": "--nnodes is 0",
    f"{SYNTHETIC} --nnodes 2": "--nnodes 2 needs --rdzv-endpoint",
    f"{SYNTHETIC} --nnodes 2 --rdzv-endpoint a:1 --queue": "--queue is for the ranks of one",
    "resume done --nproc-per-node 2": "already finished its",
    f"{SYNTHETIC} --set optim.name=nonsense": "optim.name 'nonsense' is not known",
    f'{SYNTHETIC} --set optim.groups=[{{"optimizer":"x"}}]': "The optimizer 'x'",
    "resume nonsense": "There is no run 'nonsense'",
    "resume done": "already finished its",
    "resume done --set model.num_layers=9": "holds another model: model.num_layers is",
    "resume done --set optim.name=nonsense": "optim.name 'nonsense' is not known",
    "train --resume done": "already finished its",
    "resume done:77": "no checkpoint of step 77",
    "resume done --from 77": "no checkpoint of step 77",
    "resume done --max-steps 0": "max_steps is 0",
    "generate nonsense": "There is no run 'nonsense'",
    "generate ./missing/folder": "There is no checkpoint at ./missing/folder",
    "generate missing/folder": "missing/folder is no folder here, and it cannot be downloaded",
    "generate empty": "is not a checkpoint",
    "generate done:77": "no checkpoint of step 77",
    "generate done --temperature -1": "--temperature is -1.0",
    "generate done --max-new-tokens 0": "--max-new-tokens is 0",
    "generate done --device tpu": "--device 'tpu'",
    "generate done --tokenizer missing": "no tokenizer at missing",
    "generate done --prompt-file missing": "--prompt-file missing cannot be read",
    "generate done --prompt x": "has no tokenizer.json",
    "chat nonsense": "There is no run 'nonsense'",
    "chat empty": "is not a checkpoint",
    "chat done --mode x": "--mode 'x'",
    "chat done --template missing": "--template missing cannot be read",
    "chat done --device tpu": "--device 'tpu'",
    "eval nonsense": "There is no run 'nonsense'",
    "eval empty --data a.txt": "is not a checkpoint",
    "eval done --data missing.txt": "missing.txt does not exist",
    "eval done --data missing.bin": "missing.bin does not exist",
    "eval done --dtype int8": "--dtype 'int8'",
    "eval done --stride 0": "--stride is 0",
    "eval done --tokenizer missing": "no tokenizer at missing",
    "export done": "Nothing to do",
    "export nonsense --gguf x.gguf": "There is no run 'nonsense'",
    "export empty --gguf x.gguf": "is not a checkpoint",
    "export done --gguf x.gguf --quant nonsense": "'nonsense'",
    "export done --hf x --tokenizer missing": "no tokenizer at missing",
    "serve nonsense": "There is no run 'nonsense'",
    "serve empty": "is not a checkpoint",
    "serve done --port 99999999": "--port is 99999999",
    "serve done --engine x": "--engine is 'x'",
    "serve done --device tpu": "--device 'tpu'",
    "serve done --tokenizer missing": "no tokenizer at missing",
    "compare done": "2 to 26 models",
    "compare done nonsense --prompt x": "has no tokenizer.json",
    "compare nonsense done --prompt x": "There is no run 'nonsense'",
    "compare done done --prompts missing": "--prompts missing cannot be read",
    "compare done done --data missing": "missing does not exist",
    "prepare-data": "no input given",
    "prepare-data --text missing.txt": "missing.txt does not exist",
    "prepare-data --text pip": "pip does not exist\n",
    "prepare-data --text pipe": "pipe is a pipe or device",
    "prepare-data --text a.txt --kind x": "--kind x",
    "prepare-data --text a.txt --vocab-size 5": "--vocab-size 5 is too small",
    "prepare-data --text a.txt --tokenizer missing": "no tokenizer at missing",
    "prepare-data --text a.txt --encoding nonsense": "'nonsense'",
}
if certainly_without_cuda():
    MISTAKES |= {
        f"{command} --device {device}": f"--device {device} is not available"
        for command in (SYNTHETIC, "resume done --max-steps 99", "generate done", "serve done")
        for device in ("cuda", "cuda:3")
    }
ASK = """
import contextlib, io, json, sys
from trainer.cli.main import main
for line in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as told:
        code = main(line.split())
    print(json.dumps([line, code, told.getvalue(), "torch" in sys.modules]), flush=True)
    if "torch" in sys.modules:
        break  # which says nothing of the mistakes after it
"""


@pytest.fixture(scope="module")
def told(_finished: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """The exit code and message of every mistake until one loads torch, in one process."""
    folder = tmp_path_factory.mktemp("mistakes")
    shutil.copytree(_finished, folder / "runs" / "done", symlinks=True)
    (folder / "empty").mkdir()
    (folder / "a.txt").write_text("to be or not to be\n" * 500)
    (folder / "bad.yaml").write_text("model: [1,\n")
    (folder / "wrong.yaml").write_text("model:\n  nonsense: 3\n")
    os.mkfifo(folder / "pipe")
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=folder,
        input=json.dumps(list(MISTAKES)),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stderr == ""
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line for line, _, _, torch in found if torch] == []
    return {line: (code, message) for line, code, message, _ in found}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_plain_mistake_is_told_before_torch_loads(
    told: dict[str, tuple[int, str]], line: str
) -> None:
    code, message = told[line]
    assert code == 2
    assert MISTAKES[line] in message
    assert message.startswith("trainer: ")
    assert message.count("\n") == 1
