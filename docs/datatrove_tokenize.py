"""Tokenize more text than one machine holds: datatrove reads and tokenizes, on Slurm or here.

The last step describes the tokens, so that the output folder is what
`trainer train --data-path` takes.

    pip install 'train-monitor[datatrove]'
    python datatrove_tokenize.py --input texts/ --output tokens/ --tokenizer data/
    python datatrove_tokenize.py --input texts/ --output /shared/tokens --tokenizer /shared/data \
        --tasks 500 --workers 100 --slurm PARTITION --time 20:00:00 --venv /shared/venv

`--input` is a folder of .jsonl or .parquet files (compressed or not), which the tasks share; put
filters of your own between reader and tokenizer. The same command goes on after an interruption:
datatrove repeats only the tasks that did not finish.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor, SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.readers import JsonlReader, ParquetReader
from datatrove.pipeline.tokens import DocumentTokenizer


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--input", required=True, type=Path, help="folder of .jsonl or .parquet")
    parser.add_argument("--output", required=True, type=Path, help="folder for the tokens")
    parser.add_argument("--tokenizer", required=True, type=Path, help="folder of tokenizer.json")
    parser.add_argument("--eos-token", default="<|endoftext|>", help="ends every document")
    parser.add_argument("--text-key", default="text", help="field with the text")
    parser.add_argument("--val-split", default="0.001", help="share held back for validation")
    parser.add_argument("--tasks", type=int, default=2, help="parts; at most one per input file")
    parser.add_argument("--workers", type=int, default=2, help="tasks at a time")
    parser.add_argument("--logs", type=Path, help="state of the tasks; default: OUTPUT/logs")
    parser.add_argument("--slurm", metavar="PARTITION", help="run on Slurm instead of here")
    parser.add_argument("--time", default="24:00:00", help="Slurm's limit for a task")
    parser.add_argument("--qos", default="", help="Slurm's quality of service")
    parser.add_argument("--venv", type=Path, help="virtual environment on the nodes")
    return parser.parse_args()


def tokenizing(given: argparse.Namespace) -> list[PipelineStep]:
    """Reader and tokenizer; the documents of each file are shuffled."""
    table = any(given.input.rglob("*.parquet"))
    reader = ParquetReader if table else JsonlReader
    pattern = "**/*.parquet" if table else "**/*.jsonl*"
    return [
        reader(str(given.input), glob_pattern=pattern, text_key=given.text_key),
        DocumentTokenizer(
            output_folder=str(given.output),
            tokenizer_name_or_path=str(given.tokenizer / "tokenizer.json"),
            eos_token=given.eos_token,
            shuffle_documents=True,
            seed=1,
        ),
    ]


def describing(given: argparse.Namespace) -> Any:
    """The last step: it checks all files and writes their manifest."""
    words = ["--datatrove", given.output, "--tokenizer", given.tokenizer, "--overwrite"]
    command = [sys.executable, "-m", "trainer", "prepare-data", *words]
    command += ["--val-split", given.val_split]

    def describe(data: Any, rank: int = 0, world_size: int = 1) -> Any:
        subprocess.run([str(word) for word in command], check=True)
        return data

    return describe


def main() -> None:
    """Tokenize, then describe."""
    given = arguments()
    logs = given.logs or given.output / "logs"
    if given.slurm is None:
        LocalPipelineExecutor(
            tokenizing(given), tasks=given.tasks, workers=given.workers, logging_dir=str(logs)
        ).run()
        describing(given)(None)
        return
    common: dict[str, Any] = {"time": given.time, "partition": given.slurm, "qos": given.qos}
    if given.venv:
        common["venv_path"] = str(given.venv / "bin" / "activate")
    tokenize = SlurmPipelineExecutor(
        tokenizing(given),
        tasks=given.tasks,
        workers=given.workers,
        job_name="tokenize",
        logging_dir=str(logs / "tokenize"),
        mem_per_cpu_gb=4,
        **common,
    )
    SlurmPipelineExecutor(
        [describing(given)],
        tasks=1,
        job_name="describe",
        logging_dir=str(logs / "describe"),
        depends=tokenize,
        cpus_per_task=4,
        **common,
    ).run()


if __name__ == "__main__":
    main()
