"""`trainer export`: write a model as GGUF or as a transformers folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.cli import options
from trainer.cli.models import model_options
from trainer.cli.output import print_table, progress

if TYPE_CHECKING:
    from trainer.checkpoint.opening import OpenedModel
    from trainer.export.gguf_file import GGUFExport
    from trainer.export.hf_folder import HFExport
    from trainer.export.plain import Prepared
    from trainer.export.verification import Verification


def export(
    model: model_options.ModelArgument = None,
    *,
    checkpoint: model_options.Model = None,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    gguf: Annotated[
        Path | None,
        typer.Option("--gguf", "--output", metavar="FILE", help="Write a GGUF file."),
    ] = None,
    quant: Annotated[
        str | None,
        typer.Option(
            "--quant", "--type", metavar="TYPE", help="Type of the GGUF's matrices; default: F16."
        ),
    ] = None,
    vocabulary_quant: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE", help="Type of embedding and output head; default: as --quant."
        ),
    ] = None,
    hf: Annotated[
        Path | None, typer.Option("--hf", metavar="DIR", help="Write a transformers folder.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(metavar="F32|BF16|F16", help="Type of the folder's weights; default: F32."),
    ] = None,
    mhc: Annotated[
        Path | None,
        typer.Option(
            "--mhc", metavar="FILE", help="Write hyper-connections, which our own server reads."
        ),
    ] = None,
    model_name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name in the metadata; default: the run's."),
    ] = None,
    license_: Annotated[
        str | None,
        typer.Option(
            "--license", metavar="ID", help="License in the metadata; default: as hub.license."
        ),
    ] = None,
    author: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Author in the metadata; default: as hub.author."),
    ] = None,
    modelfile: Annotated[
        bool,
        typer.Option(
            "--modelfile/--no-modelfile", help="Write an Ollama Modelfile beside the GGUF file."
        ),
    ] = True,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Load the result in llama.cpp or transformers and compare."),
    ] = False,
    tokenizer: model_options.TokenizerOption = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge LoRA adapters into the weights of their base.")
    ] = False,
    lossy: Annotated[
        bool, typer.Option("--lossy", help="Allow ternary types for weights that are not ternary.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
) -> int:
    """Write a model as GGUF for llama.cpp, or as a folder for transformers.

    Types: F32, F16, BF16, Q8_0, Q5_1, Q5_0, Q4_1, Q4_0 and MXFP4; TQ1_0 and TQ2_0 for ternary
    weights; with llama-cpp-python also Q6_K, Q5_K_M, Q4_K_M and more. Norms and biases stay F32.

    --verify alone checks a temporary GGUF. With --gguf and an existing file it checks that file.
    """
    import contextlib

    from shared.errors import ExitCode, UserError
    from shared.temporaries import temporary_folder, temporary_place
    from trainer.formats.gguf_types import find_type

    if gguf is None and hf is None and not verify:
        raise UserError("Nothing to do: give --gguf FILE, --hf DIR or --verify.")
    if mhc is not None and gguf is None:
        raise UserError("--mhc goes with a GGUF file: give --gguf FILE too.")
    if gguf is None and hf is not None and (quant or vocabulary_quant or lossy):
        raise UserError(
            "--quant, --vocabulary-quant and --lossy are for a GGUF file: give --gguf FILE too, or "
            "--dtype for the folder."
        )
    if dtype is not None and hf is None:
        raise UserError("--dtype is for a transformers folder: give --hf DIR too, or --quant.")
    chosen = find_type(quant or "F16")
    vocabulary = find_type(vocabulary_quant) if vocabulary_quant is not None else None

    asked = model_options.model_asked(model, checkpoint)
    tokenizer = model_options.tokenizer_asked(tokenizer)
    path = model_options.find_model(asked, runs_dir, tokenizer=tokenizer)
    _check_merge(path, merge)

    import torch

    from trainer.checkpoint.opening import open_model
    from trainer.export.about import NOTHING_STATED, stated
    from trainer.export.gguf_file import prepare_gguf
    from trainer.export.hf_folder import find_dtype, prepare_hf_folder

    dtype = find_dtype(dtype or "F32")
    opened = open_model(path, torch.device("cpu"), tokenizer=tokenizer)
    given = stated(model_name, license_, author)
    writes = force or lossy or hf or mhc or quant or vocabulary_quant or given != NOTHING_STATED
    if verify and not writes and gguf is not None and gguf.is_file():
        return int(ExitCode.OK if _verified_file(opened, gguf) else ExitCode.FAILURE)
    with contextlib.ExitStack() as leaving:
        temporary = gguf is None and hf is None
        if temporary:
            place = temporary_place() / "trainer-verify"
            gguf = leaving.enter_context(temporary_folder(place)) / "model.gguf"
        # Everything is checked before anything is written.
        file = gguf and prepare_gguf(
            opened,
            gguf,
            chosen,
            vocabulary=vocabulary,
            mhc=mhc,
            force=force,
            lossy=lossy,
            temporary=temporary,
            given=given,
            modelfile=modelfile and not temporary,
        )
        folder = hf and prepare_hf_folder(opened, hf, dtype, force=force, given=given)
        passed = True
        if file:
            _write_gguf(file, force=force)
            passed &= not verify or _verified_gguf(_conversion(opened, file.prepared), file)
        if folder:
            _write_hf(folder, force=force)
            passed &= not verify or _verified_hf(_conversion(opened, folder.prepared), folder)
    return int(ExitCode.OK if passed else ExitCode.FAILURE)


def _check_merge(path: Path, merge: bool) -> None:
    """Raise UserError for adapters without --merge, and for a whole model with it."""
    from shared.checkpoints.catalogue import is_adapter
    from shared.errors import UserError
    from shared.text import one_line

    if is_adapter(path) and not merge:
        raise UserError(
            f"{one_line(path)} holds LoRA adapters: give --merge to write them as one model with "
            "their base. For peft nothing needs to be exported, because the folder is in its "
            "format."
        )
    if merge and not is_adapter(path):
        raise UserError(
            f"{one_line(path)} is a whole model without adapters to merge; leave --merge out."
        )


def _conversion(opened: OpenedModel, ready: Prepared) -> OpenedModel:
    """The model that a conversion is compared with.

    A ternary model rounds its inputs as no other program does: its ternary weights are compared.
    """
    return ready.opened if opened.model.config.ternary else opened


def _write_gguf(file: GGUFExport, *, force: bool) -> None:
    """Write the file and print its tensors."""
    import shlex

    from shared.text import format_bytes, one_line
    from trainer.export.gguf_file import write_gguf, written_tensors
    from trainer.export.modelfile import modelfile_path
    from trainer.export.table import compression, tensor_rows

    for note in file.notes:
        typer.echo(one_line(note, 2000))
    with progress(f"writing {one_line(file.path.name, 40)}", file.plan.bytes) as advance:
        size = write_gguf(file, force=force, advance=advance)
    written = written_tensors(file.path)
    print_table(tensor_rows(written), numbers=(1, 4))
    typer.echo(f"{one_line(file.path)}: {format_bytes(size)}, {compression(written)}.")
    if file.modelfile is not None:
        beside = modelfile_path(file.path)
        name = shlex.quote(one_line(file.path.name.removesuffix(".gguf")))
        typer.echo(f"For Ollama: ollama create {name} -f {shlex.quote(one_line(beside))}")


def _write_hf(folder: HFExport, *, force: bool) -> None:
    """Write the folder and print its files."""
    from shared.text import format_bytes, one_line
    from trainer.export.hf_folder import write_hf_folder

    for note in folder.prepared.notes:
        typer.echo(one_line(note, 2000))
    files = write_hf_folder(folder, force=force)
    rows = [(name, format_bytes(size), "") for name, size in files]
    print_table([("file", "bytes", ""), *rows], numbers=(1,))
    typer.echo(f"{one_line(folder.path)}: a folder that transformers loads.")


def _verified_file(opened: OpenedModel, path: Path) -> bool:
    from trainer.export.verification import verify_written

    return _passed(lambda: verify_written(opened, path))


def _verified_gguf(opened: OpenedModel, file: GGUFExport) -> bool:
    from trainer.export.verification import verify_gguf

    kind, ours = file.plan.chosen.name, bool(file.prepared.beside)
    return _passed(lambda: verify_gguf(opened, file.path, kind, ours=ours))


def _verified_hf(opened: OpenedModel, folder: HFExport) -> bool:
    from trainer.export.verification import verify_hf_folder

    return _passed(lambda: verify_hf_folder(opened, folder.path, folder.dtype))


def _passed(verify: Callable[[], Verification]) -> bool:
    """Compare and print the result; whether it passed."""
    typer.echo("comparing", err=True)
    found = verify()
    typer.echo("\n".join(found.lines))
    return not found.problems
