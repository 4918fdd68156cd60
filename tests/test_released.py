"""The authors' released synthetic data, weights and results, reproduced; where the data root has them."""

import numpy as np
import pandas as pd
import pytest
import torch

from advtransfer.datasets import released
from advtransfer.experiments import synthetic
from advtransfer.models.mlp import OneHiddenLayer
from advtransfer.pages import synthetic as page
from advtransfer.records.published import RESULTS

FILES = 6
pytestmark = pytest.mark.skipif(
    len(released.files()) < FILES, reason=f"the authors' released files are not in {released.folder()}"
)


@pytest.fixture(scope="module")
def data():
    return released.data()


def test_data_and_weights_have_the_sizes_of_section_4(data):
    assert (data.x.shape, data.y.shape) == ((5000, 50), (5000, 10))
    assert data.x.dtype == data.y.dtype == torch.float64
    for m in (50, 100, 200):
        assert [tuple(w.shape) for w in released.network(m)] == [(m, 50), (m,), (10, m), (10,)]
    assert [(r.source_m, r.target_m, r.level, len(r.table)) for r in released.results()] == [
        (50, 100, 0, 10),
        (100, 100, 1, 10),
    ]


@pytest.mark.parametrize("number", [0, 1])
def test_every_published_column_is_reproduced_in_single_precision(data, number):
    result = released.results()[number]
    ours = synthetic.released_columns(
        result, OneHiddenLayer(*released.network(result.target_m)), type(data)(data.x.float(), data.y.float())
    )
    assert len(ours.columns) == 10
    for column in ours.columns:
        np.testing.assert_allclose(ours[column], result.table[column], rtol=0, atol=1e-5, err_msg=column)


def test_the_stored_differences_are_those_of_the_files():
    stored, now = pd.read_csv(RESULTS / page.DIFFERENCES), page.differences(synthetic.recomputed())
    pd.testing.assert_frame_equal(stored, now, rtol=0, atol=1e-9)


def test_every_published_value_is_reproduced_in_double_precision():
    table = synthetic.recomputed()
    assert len(table) == 2 * 10 * 9
    assert table.released.std() > 0.1
    error = (table.here - table.released).abs()
    assert error.max() < 1e-5, table[error > 1e-5]


# t, direction, then α1, α2, α1∗α2, ρ, R, R1 and the relative distance, as printed.
GOLDEN = """
0.1 T→S .95231  .99715  .949598 .961876 .897675 .881861 .319882
0.1 S→T .952049 .9973   .949481 .881844 .848974 .804072 .388621
0.5 T→S .482459 .918735 .447195 .961876 .237191 .23246  .873389
"""
COLUMNS = ("alpha1", "alpha2", "alpha12", "rho", "ratio", "ratio_first", "relative_distance")


def test_the_golden_table(data):
    scan = synthetic.Scan(OneHiddenLayer(*released.network(100)), data, levels=(0,))
    assert scan.summary()["gradient_norm"] == pytest.approx(0.91173, abs=5e-6)
    v = OneHiddenLayer(*released.direction(100, 100))
    for line in GOLDEN.split("\n")[1:-1]:
        t, direction, *printed = line.split()
        losses, rows = scan.source(OneHiddenLayer(*released.network(100)).moved(float(t), v))
        (row,) = [row for row in rows if row["direction"] == direction]
        for column, text in zip(COLUMNS, printed, strict=True):
            half_a_digit = 0.5 * 10.0 ** -len(text.lstrip("."))
            assert row[column] == pytest.approx(float(text), abs=1.01 * half_a_digit), (line, column)
        if t == "0.1":
            assert losses["hidden_transfer_loss"] == pytest.approx(0.125, abs=5e-4)
            assert losses["transfer_loss"] == pytest.approx(0.242, abs=5e-4)
