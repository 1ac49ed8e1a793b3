"""Two examples for the help page of each command."""

from __future__ import annotations

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[str, str]] = {
    "prepare-data": (
        "trainer prepare-data --text book.txt --output data",
        "trainer prepare-data --text 'corpus/*.jsonl' --text-field body --vocab-size 8192",
    ),
    "tokenizer train": (
        "trainer tokenizer train --files book.txt --output-dir tokenizer",
        "trainer tokenizer train --files 'corpus/*.txt' --vocab-size 8192 --output-dir tok",
    ),
    "tasks make": (
        "trainer tasks make --count 5000 --output tasks",
        "trainer tasks make --split train --seed 1 --text --output more-tasks",
    ),
    "tasks check": (
        "trainer tasks check --against tasks/held-out.jsonl --text 'corpus/*.jsonl'",
        "trainer tasks check --against humaneval.jsonl.gz --text corpus --list leave-out.jsonl",
    ),
    "train": (
        "trainer train --config tiny-cpu --data-path data --max-steps 500",
        "trainer train --data book.txt --name book --detach",
    ),
    "dpo": (
        "trainer dpo --pairs pairs.jsonl --begin-from helper:best --name preferred",
        "trainer dpo --pairs pairs.jsonl --begin-from helper:best --beta 0.3 --epochs 2",
    ),
    "rl": (
        "trainer rl --prompts tasks.jsonl --checkpoint rusty:best --language rust",
        "trainer rl --probe answer.rs --prompts tasks.jsonl --language rust --json",
    ),
    "sweep": (
        "trainer sweep --config my.yaml --set train.seed=1,2,3",
        "trainer sweep --config my.yaml --seeds 3 --dry-run",
    ),
    "sweep status": ("trainer sweep status", "trainer sweep status tiny-cpu-sweep --csv"),
    "sweep retry": (
        "trainer sweep retry tiny-cpu-sweep",
        "trainer sweep retry tiny-cpu-sweep --stopped",
    ),
    "sweep stop": (
        "trainer sweep stop tiny-cpu-sweep",
        "trainer sweep stop rates --runs-dir experiments",
    ),
    "resume": (
        "trainer resume latest",
        "trainer resume book --from 500 --max-steps 2000",
    ),
    "pipeline": (
        "trainer pipeline --config configs/production-small.yaml",
        "trainer pipeline --config configs/production.yaml --dry-run",
    ),
    "profile": (
        "trainer profile --config tiny-cpu",
        "trainer profile --config nano-125m --steps 5 --trace trace.json",
    ),
    "config list": ("trainer config list", "trainer config list --json"),
    "config show": (
        "trainer config show tiny-cpu",
        "trainer config show my.yaml --set train.max_steps=500",
    ),
    "demo": ("trainer demo", "trainer demo --max-steps 50 --runs-dir demo-runs"),
    "status": ("trainer status", "trainer status latest --json"),
    "logs": ("trainer logs latest --follow", "trainer logs book --lines 100"),
    "pause": ("trainer pause latest", "trainer pause book --runs-dir experiments"),
    "continue": ("trainer continue latest", "trainer continue book --runs-dir experiments"),
    "checkpoint": ("trainer checkpoint latest", "trainer checkpoint book --runs-dir experiments"),
    "stop": ("trainer stop latest", "trainer stop --all"),
    "runs list": ("trainer runs list", "trainer runs list --tag baseline --json"),
    "runs tag": ("trainer runs tag book baseline", "trainer runs tag book --remove baseline"),
    "runs note": (
        "trainer runs note book 'lower rate after step 500'",
        "trainer runs note latest 'first run on the new data'",
    ),
    "runs rename": (
        "trainer runs rename latest book",
        "trainer runs rename book_20260101_120000 'book, second try'",
    ),
    "runs archive": ("trainer runs archive book", "trainer runs archive first second"),
    "runs unarchive": ("trainer runs unarchive book", "trainer runs unarchive first second"),
    "runs delete": ("trainer runs delete book --dry-run", "trainer runs delete first second --yes"),
    "runs restore": ("trainer runs restore", "trainer runs restore book"),
    "runs empty-trash": (
        "trainer runs empty-trash --dry-run",
        "trainer runs empty-trash --runs-dir experiments --yes",
    ),
    "runs plot": (
        "trainer runs plot latest",
        "trainer runs plot shakes helper --metric val_loss --log --width 100",
    ),
    "runs import": (
        "trainer runs import wandb/latest-run",
        "trainer runs import mlflow.db --run baseline --name baseline-lr-3e-4",
    ),
    "runs export": (
        "trainer runs export book --csv book.csv",
        "trainer runs export latest --svg losses.svg --smooth 0.9",
    ),
    "runs command": (
        "trainer runs command latest",
        "trainer runs command book --runs-dir experiments",
    ),
    "runs diff": ("trainer runs diff first second", "trainer runs diff first second --json"),
    "daemon": ("trainer daemon", "trainer daemon --max-runs 2 --detach"),
    "daemon stop": ("trainer daemon stop", "trainer daemon stop --runs"),
    "daemon status": ("trainer daemon status", "trainer daemon status --json"),
    "daemon install-service": (
        "trainer daemon install-service",
        "trainer daemon install-service --runs-dir experiments --max-runs 2",
    ),
    "alerts test": ("trainer alerts test", "trainer alerts test --alerts alerts.yaml"),
    "checkpoints list": (
        "trainer checkpoints list latest",
        "trainer checkpoints list book --json",
    ),
    "checkpoints verify": (
        "trainer checkpoints verify latest",
        "trainer checkpoints verify book best step_500",
    ),
    "checkpoints prune": (
        "trainer checkpoints prune book --keep-last 2 --keep-best 1 --dry-run",
        "trainer checkpoints prune book --undo",
    ),
    "checkpoints compress": (
        "trainer checkpoints compress book --dry-run",
        "trainer checkpoints compress book step_500",
    ),
    "checkpoints decompress": (
        "trainer checkpoints decompress book",
        "trainer checkpoints decompress book step_500",
    ),
    "grow": (
        "trainer grow book:500 --to hidden_size=384,num_layers=8 --output book-large",
        "trainer grow latest --to num_layers=12 --method stack --dry-run",
    ),
    "generate": (
        "trainer generate latest --prompt 'Once upon a time'",
        "trainer generate book:500 --prompt 'The' --samples 3 --seed 1",
    ),
    "chat": ("trainer chat latest", "trainer chat model.gguf --system 'Answer in one sentence.'"),
    "eval": (
        "trainer eval book:best --data test.txt --json",
        "trainer eval coder --suite tasks --samples 16",
    ),
    "compare": (
        "trainer compare first second --prompt 'Once upon a time'",
        "trainer compare book:500 book:best --data test.txt --no-speed",
    ),
    "export": (
        "trainer export latest --gguf book.gguf --quant Q8_0",
        "trainer export book:best --hf book-hf --verify",
    ),
    "serve": (
        "trainer serve latest",
        "trainer serve model.gguf --port 9000 --api-key-file key.txt",
    ),
    "upload": (
        "trainer upload latest --repo my-model --dry-run",
        "trainer upload book best --repo me/book --public --license mit",
    ),
}
