"""The frames between the grader and a submission: what is plain comes through, and what lies is refused."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from advtransfer.classroom import wire
from advtransfer.classroom.checks.answers import tensor
from advtransfer.classroom.texts import in_one_line, visible


def test_the_wire_keeps_values_and_models():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 2), torch.nn.Tanh()).double()
    sent = {"a": [1, 2.5, None, "é"], 3: torch.eye(2).double()[:, 1], "model": model, "empty": torch.zeros(0, 3)}
    data = wire.encode(sent)
    with pytest.raises(wire.WireError):
        wire.decode(reader(data))
    got = wire.decode(reader(data), models=True)
    x = torch.ones(4, 2, 3).double()
    assert got["a"] == sent["a"]
    assert got[3].equal(sent[3])
    assert got["empty"].shape == (0, 3)
    assert got["model"](x).equal(model(x))


@pytest.mark.parametrize("value", [
    torch.tensor([1, -2], dtype=torch.int16), torch.tensor([0.5, 3], dtype=torch.bfloat16), range(3),
    np.array([1, 2], np.uint16), pd.Series([0.25, 1.0], index=[4, 7]), np.float32(0.5), [np.int8(3)], True,
], ids=lambda value: type(value).__name__)  # fmt: skip
def test_what_passes_in_the_notebook_passes_in_the_grader(value):
    assert tensor("f", wire.decode(reader(wire.encode(value)))).equal(tensor("f", value))


def reader(data):
    stream = [data]

    def read(n):
        part, stream[0] = stream[0][:n], stream[0][n:]
        return part

    return read


@pytest.mark.parametrize("header", [
    b"[]", b"{", b'{"value": 1}', b'{"value": {"tensor": 0}, "arrays": []}', b"[" * 100_000,
    b'{"value": 1, "arrays": [["object", [1]]]}', b'{"value": {"model": []}, "arrays": []}',
    b'{"value": 1, "arrays": [["float64", [-1]]]}', b'{"value": 1, "arrays": [["float64", [99999999999]]]}',
    b'{"value": 1, "arrays": [["float64", [0, 99999999999]]]}',
    b'{"value": {"array": 0}, "arrays": [["float64", [1e999]]]}',
    b'{"value": {"array": 0}, "arrays": [["float64", [true]]]}', b'{"value": {"array": 0}, "arrays": [["float64", 1]]}',
    b'{"value": {"array": 0}, "arrays": [["float64", [' + b"9" * 4000 + b", 9, 9, 9]]]}",
    b'{"value": {"array": 0}, "arrays": [["float64", [0, 0, 0, 0, 0, 0, 0, 0, 0]]]}',
    b'{"value": [{"array": 0}, {"array": 0}], "arrays": [["uint8", [0]]]}',
    b'{"value": {"array": 1}, "arrays": [["uint8", [0]]]}', b'{"value": {"array": -1}, "arrays": [["uint8", [0]]]}',
    b'{"value": {"array": true}, "arrays": [["uint8", [0]], ["uint8", [0]]]}',
    b'{"value": [{"array": 0}, {"array": 1}, {"tensor": true}], "arrays": [["uint8", [0]], ["uint8", [0]]]}',
    b'{"value": 1, "arrays": [["uint8", [0]]]}',
    b'{"value": ' + b"[" * 100 + b"1" + b"]" * 100 + b', "arrays": []}', b'{"value": {}, "arrays": []}',
    b'{"value": {"dict": [[[], 1]]}, "arrays": []}', b'{"value": {"dict": 1}, "arrays": []}', b"\xff\xfe", b"NaN",
])  # fmt: skip
def test_a_frame_that_lies_is_refused(header):
    with pytest.raises(wire.WireError):
        wire.decode(reader(len(header).to_bytes(8, "big") + header))
    with pytest.raises(wire.WireError):
        wire.decode(reader((2**40).to_bytes(8, "big")))


def test_a_frame_is_measured_before_anything_is_made_of_it():
    """1800 references to one array of 1 MiB, which once took 1.8 GiB and minutes."""
    header = json.dumps({"value": [{"array": 0}] * 1800, "arrays": [["uint8", [2**20]]]}).encode()
    frame = len(header).to_bytes(8, "big") + header

    read = reader(frame)
    with pytest.raises(wire.WireError, match="each of its arrays once"):
        wire.decode(read)
    assert read(1) == b""  # the header alone was read


@pytest.mark.parametrize(("value", "told"), [
    ([0.5] * 300_000, r"the value has 1\.\d MiB as text; expected at most 1 MiB"),
    (torch.zeros(2**24), None),
    (torch.zeros(2**24 + 1), r"the arrays have 64\.0 MiB; expected at most 64 MiB"),
    ([torch.zeros(1)] * 1001, "there are 1001 arrays; expected at most 1000"),
], ids=["list", "as large as can be", "tensor", "many"])  # fmt: skip
def test_the_limit_that_was_met_is_named(value, told):
    if told is None:
        assert wire.decode(reader(wire.encode(value))).equal(value)
    else:
        with pytest.raises(wire.WireError, match=told):
            wire.encode(value)


def test_words_of_students_are_shown_in_one_line_and_move_nothing():
    assert in_one_line("a\n\tb \x1b[31m \u202e \ud800") == r"a b \x1b[31m \u202e \ud800"
    assert visible("é\nنام\u200cخانوادگی 👩\u200d🔬\x07") == "é\nنام\u200cخانوادگی 👩\u200d🔬\\x07"
