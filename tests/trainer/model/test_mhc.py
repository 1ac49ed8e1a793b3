"""The `.mhc` file: its bytes by hand, there and back, and every kind of damage."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from trainer.config.model import ModelConfig
from trainer.model.language_model import LanguageModel
from trainer.model.parts.hyper_connections.mhc import (
    MhcLayer,
    composite_gain,
    describe,
    matrix_problems,
    mhc_bytes,
    mhc_of_weights,
    mhc_weights,
    read_mhc,
    validate,
    write_mhc,
)

SCALARS = st.floats(width=32, allow_nan=False, allow_infinity=False)
MIXING = {2: 1, 4: 24}


def some(count: int) -> st.SearchStrategy[tuple[float, ...]]:
    return st.tuples(*[SCALARS] * count)


@st.composite
def sublayers(draw: st.DrawFn) -> list[MhcLayer]:
    n = draw(st.sampled_from([2, 4]))
    layer = st.builds(MhcLayer, some(MIXING[n]), some(n), some(n), some(n), some(n))
    blocks = draw(st.integers(1, 3))
    return draw(st.lists(layer, min_size=2 * blocks, max_size=2 * blocks))


def counted(n: int, layers: int) -> list[MhcLayer]:
    """Scalars that count up: 0, 1, 2 … in the order of the file."""
    made, value = [], 0
    for _ in range(layers):
        parts = []
        for size in (MIXING[n], n, n, n, n):
            parts.append(tuple(float(value + i) for i in range(size)))
            value += size
        made.append(MhcLayer(*parts))
    return made


def at(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "model.mhc"
    path.write_bytes(data)
    return path


# The layout


@pytest.mark.parametrize(("n", "each"), [(2, 9), (4, 40)])
def test_the_bytes_are_those_of_the_table(n: int, each: int) -> None:
    data = mhc_bytes(counted(n, 24))
    assert data[0:4] == bytes.fromhex("2143486D")
    assert struct.unpack_from("<I", data, 4) == (2,)
    assert struct.unpack_from("<I", data, 8) == (24,)
    assert struct.unpack_from("<I", data, 12) == (n,)
    assert struct.unpack_from(f"<{24 * each}f", data, 16) == tuple(map(float, range(24 * each)))
    assert len(data) == 16 + 24 * 4 * each


def test_twelve_blocks_of_two_streams_take_880_bytes() -> None:
    assert len(mhc_bytes(counted(2, 24))) == 880


@settings(deadline=None, max_examples=50)
@given(sublayers())
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, layers: list) -> None:
    path = tmp_path_factory.mktemp("mhc") / "model.mhc"
    assert write_mhc(path, layers) == path.stat().st_size
    assert read_mhc(path) == layers
    assert mhc_bytes(read_mhc(path)) == path.read_bytes()


def test_version_1_is_read_too(tmp_path: Path) -> None:
    layers = counted(2, 4)
    data = mhc_bytes(layers)
    assert read_mhc(at(tmp_path, data[:4] + struct.pack("<I", 1) + data[8:])) == layers


# Damage


@settings(deadline=None, max_examples=20)
@given(sublayers(), st.data())
def test_no_truncated_file_is_read(layers: list, data: st.DataObject) -> None:
    whole = mhc_bytes(layers)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert validate(whole[:cut])
    assert validate(whole + b"\0")


@pytest.mark.parametrize("n", [2, 4])
def test_every_flipped_bit_of_the_header_is_found(n: int) -> None:
    whole = mhc_bytes(counted(n, 4))
    for bit in range(16 * 8):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        assert len(validate(bytes(flipped))) >= 1, bit


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200), st.sampled_from([b"", bytes.fromhex("2143486d02000000")]))
def test_junk_is_refused_with_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, start: bytes
) -> None:
    path = at(tmp_path_factory.mktemp("mhc"), start + junk)
    try:
        layers = read_mhc(path)
    except UserError as error:
        assert str(error).endswith(".") and "\n" not in str(error)
    else:
        assert mhc_bytes(layers)[8:] == path.read_bytes()[8:]


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ((0x46554747, 2, 2, 2), "It begins with 47 47 55 46"),
        ((0x6D484321, 3, 2, 2), "Its version is 3"),
        ((0x6D484321, 2, 0, 2), "It has 0 sub-layers"),
        ((0x6D484321, 2, 3, 2), "It has 3 sub-layers; the number must be even"),
        ((0x6D484321, 2, 10_002, 2), "It has 10002 sub-layers; 1 to 10000 are possible"),
        ((0x6D484321, 2, 4_294_967_294, 4), "It has 4294967294 sub-layers"),
        ((0x6D484321, 2, 2, 1), "It has 1 streams; 2 or 4 are possible"),
        ((0x6D484321, 2, 2, 2), "It has 16 bytes; 2 sub-layers of 2 streams take 88"),
    ],
)
def test_each_problem_has_its_sentence(
    header: tuple[int, ...], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=problem):
        read_mhc(at(tmp_path, struct.pack("<4I", *header)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_found(value: float) -> None:
    whole = mhc_bytes(counted(2, 4))
    data = whole[:52] + struct.pack("<f", value) + whole[56:]  # the second sub-layer's first
    assert validate(data) == ["Sub-layer 1 has a non-finite scalar."]


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.mhc")
    for name in ("none.mhc", "pipe.mhc", "nul\0.mhc", "."):
        with pytest.raises(UserError, match="Cannot read"):
            read_mhc(tmp_path / name)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    layers = counted(2, 2)
    large = [layers[0], MhcLayer((1e300,), *[(0.0, 0.0)] * 4)]
    nan = [layers[0], MhcLayer((float("nan"),), *[(0.0, 0.0)] * 4)]
    for wrong in ([], layers[:1], large, nan, [counted(2, 1)[0], counted(4, 1)[0]]):
        with pytest.raises(UserError, match=r"\.mhc file cannot be written"):
            write_mhc(tmp_path / "model.mhc", wrong)
    assert list(tmp_path.iterdir()) == []


# The matrices


@settings(deadline=None, max_examples=50)
@given(sublayers())
def test_every_finite_file_has_sound_matrices(layers: list) -> None:
    assert validate(mhc_bytes(layers)) == []
    assert composite_gain([layer.h_res for layer in layers]) <= 1 + 1e-9


def test_wrong_matrices_are_told() -> None:
    swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    row = np.array([[0.9, 0.2], [0.1, 0.8]])
    negative = np.array([[1.5, -0.5], [-0.5, 1.5]])
    assert matrix_problems([swap, np.eye(2)]) == []
    problems = matrix_problems([swap, row, negative])
    assert [p.partition(" is")[0] for p in problems[:2]] == [
        "H_res of sub-layer 1",
        "H_res of sub-layer 2",
    ]
    assert "sum 1.1" in problems[0] and "smallest entry of -0.5" in problems[1]
    assert problems[2].startswith("The product of all H_res amplifies")


# A model's


def model_of(streams: int) -> LanguageModel:
    model = LanguageModel(
        ModelConfig(
            vocab_size=31, hidden_size=32, num_layers=3, hyper_streams=streams, max_seq_len=16
        )
    )
    model.initialize(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "_hyper." in name:
                parameter.normal_()
    return model


@pytest.mark.parametrize("streams", [2, 4])
def test_a_models_connections_go_into_the_file_and_come_back(streams: int, tmp_path: Path) -> None:
    model = model_of(streams)
    layers = mhc_of_weights(model.state_dict(), streams)
    write_mhc(tmp_path / "model.mhc", layers)
    weights = mhc_weights(read_mhc(tmp_path / "model.mhc"))
    mine = {name: value for name, value in model.state_dict().items() if "_hyper." in name}
    assert list(weights) == list(mine)
    assert all(torch.equal(weights[name], mine[name]) for name in mine)
    connections = [c for layer in model.model.layers for c in (layer.attn_hyper, layer.mlp_hyper)]
    for layer, connection in zip(layers, connections, strict=True):
        for ours, theirs in (
            (layer.h_res, connection.h_res()),
            (layer.h_pre, connection.h_pre()),
            (layer.h_post, connection.h_post()),
        ):
            np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-6)


def test_other_models_have_no_such_file() -> None:
    with pytest.raises(UserError, match="this model has one stream; its connections fold"):
        mhc_of_weights(model_of(1).state_dict(), 1)
    with pytest.raises(UserError, match="this model has no hyper-connections"):
        mhc_of_weights({}, 0)


def test_a_file_is_described_in_a_line(tmp_path: Path) -> None:
    inert = MhcLayer((0.0,), *[(0.0, 0.0), (0.5, 0.5)] * 2)
    write_mhc(tmp_path / "a.mhc", [inert] * 24)
    assert describe(tmp_path / "a.mhc") == (
        "24 sub-layers (12 blocks) of 2 streams, 880 B; a stream keeps 0.5 of itself, h_pre 0.622, "
        "h_post 1.24, composite gain 1.000000; the streams stay equal, so the model is one scaled "
        "residual"
    )
    apart = MhcLayer((0.0,), *[(0.0, 0.0)] * 3, (0.5, 0.25))
    write_mhc(tmp_path / "b.mhc", [inert, apart])
    assert "the streams stay equal" not in describe(tmp_path / "b.mhc")
