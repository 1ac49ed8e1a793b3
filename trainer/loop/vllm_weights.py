"""The weights of a run, handed to the vLLM server that answers its prompts."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import RunError, UserError
from shared.files import read_json
from shared.text import one_line
from trainer.checkpoint.hf_format import hf_config
from trainer.checkpoint.saving import weight_tensors
from trainer.checkpoint.tensor_file import write_tensors
from trainer.model.parts.registry import active_parts
from trainer.rl.vllm import VllmServer

if TYPE_CHECKING:
    from trainer.loop.session import Session

_WEIGHTS = "model.safetensors"
#: What only checkpoints of runs have: nobody wants their weights replaced.
_OF_A_RUN = ("manifest.json", "optimizer.safetensors", "trainer_state.json")
_SHAPE = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


class VllmWeights:
    """Keeps the model of `server` that of a session. Rank 0 does it, and the others wait."""

    def __init__(self, session: Session, server: VllmServer) -> None:
        """Raises UserError where vLLM cannot answer for this run."""
        self._session, self._server = session, server
        if session.learner.parallel.lockstep:
            raise UserError("rl.rollouts vllm needs whole models on every rank: leave out fsdp.")
        if active_parts(session.config.model):
            raise UserError(
                "rl.rollouts vllm works for plain models, without adapters and other parts of ours."
            )
        self._folder = server.open()
        self._check(self._folder)
        self._step = -1

    def _check(self, folder: Path) -> None:
        own = next((name for name in _OF_A_RUN if (folder / name).exists()), None)
        others = [p.name for p in folder.glob("*.safetensors") if p.name != _WEIGHTS]
        why = ""
        if own is not None:
            why = f"it is a checkpoint (it has {own}), and its weights would be replaced"
        elif others:
            why = f"it has weights in {one_line(others[0])}, not in {_WEIGHTS} alone"
        else:
            known = hf_config(self._session.config.model, None, None)
            served = read_json(folder / "config.json") or {}
            key = next((key for key in _SHAPE if served.get(key) != known.get(key)), None)
            if key is not None:
                why = f"its {key} is {one_line(served.get(key), 40)}, not {known.get(key)}"
        if why:
            raise UserError(
                f"vLLM must not answer from {one_line(folder)}: {why}. Start it on a copy that "
                "holds config.json, model.safetensors and the tokenizer's files alone."
            )

    def bring(self) -> None:
        """Have the server answer with the present weights. Raises RunError if the disk is full."""
        session = self._session
        if session.progress.step == self._step:
            return

        def hand_over() -> None:
            temporary = self._folder / f".{_WEIGHTS}.tmp"
            try:
                write_tensors(temporary, weight_tensors(session.model), {"format": "pt"})
                temporary.replace(self._folder / _WEIGHTS)
            except OSError as error:
                with contextlib.suppress(OSError):
                    temporary.unlink()  # the start of a file takes up space, too
                raise RunError(
                    f"Cannot write vLLM's weights to {one_line(self._folder)}: {error.strerror}. "
                    "Free space there or change its permissions, then resume the run."
                ) from error
            self._server.reload()

        session.group.decided(hand_over)
        self._step = session.progress.step
