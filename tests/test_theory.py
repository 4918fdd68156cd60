"""The theory checks: every statement holds, every counterexample has the value found by hand."""

from fractions import Fraction
from math import exp, sqrt

import numpy as np
import pytest
import torch
from scipy import stats

from advtransfer.experiments import certainty, counterexamples, remarks, sampling, statements, theory


@pytest.fixture(scope="module")
def record():
    return theory.run(theory.Config.from_profile("smoke"), cache=False)


def test_every_statement_is_verified(record):
    table = record.tables["statements"].set_index("key")
    assert table.verified.all(), table[~table.verified]
    assert (table.cases == 18).all()  # three sizes, both directions, three inner products
    assert table.index.is_unique
    assert {"prop-2-1", "prop-2-2", "theorem-3-1", "prop-3-1", "theorem-3-2-first", "theorem-3-2-second"} <= {
        *table.index
    }
    equalities = table[table.kind == "equality"]
    assert (equalities.worst > 0).any()  # the two sides are not one computation
    assert (equalities.tolerance <= 1e-7).all()
    assert (table[table.kind == "inequality"].tolerance <= 1 + 1e-9).all()


def test_a_statement_that_is_wrong_is_not_verified(monkeypatch):
    """Faults injected one at a time into what the statements measure."""
    config = theory.Config.from_profile("smoke", samples=10)

    class Twice(statements.matching.GeneralizedTransferability):
        def ratio(self, norm_a, attacks=None):
            return 2 * super().ratio(norm_a, attacks)

    monkeypatch.setattr(statements.matching, "GeneralizedTransferability", Twice)
    table = theory._statements(config).set_index("key")
    assert not table.verified[["theorem-3-1", "scalar"]].any()
    assert table.verified[["prop-2-1", "matching", "varying-h"]].all()  # they do not pass through it


def test_a_number_that_is_none_verifies_nothing(monkeypatch):
    found = iter([float("nan")])
    wrong = statements.STATEMENTS[1]._replace(measure=lambda case: next(found, 0.0))
    monkeypatch.setattr(theory, "STATEMENTS", (statements.STATEMENTS[0], wrong))
    table = theory._statements(theory.Config.from_profile("smoke", samples=10))
    assert table.verified.tolist() == [True, False]
    assert np.isnan(table.worst[1])


P = [exp(logit) / sum(map(exp, (0.3, -0.2, 0.1))) for logit in (0.3, -0.2, 0.1)]
# λ² - (1 - Σp²) λ + 3 p1 p2 p3 = 0 gives the eigenvalues of diag(p) - ppᵀ beside 0.
SPREAD, PRODUCT = 1 - sum(p * p for p in P), 3 * P[0] * P[1] * P[2]
FISHER = (SPREAD + sqrt(SPREAD**2 - 4 * PRODUCT)) / 2
C = Fraction(999, 1000)
BY_HAND = {  # (printed, holds), in the order of the errata page
    "erratum-how-often": [(Fraction(1, 2), 0)],
    "erratum-alpha1-range": [(1, 3)],
    "erratum-hessian": [(2, 1), (0, FISHER / 2)],
    "erratum-operator-norm": [(Fraction(1, 2), 1)],
    "erratum-kl-square": [(sqrt(Fraction(1, 2)), Fraction(1, 2))],
    "erratum-ties": [(1, 0)],
    "erratum-inner-product": [(2, 1)],
    "erratum-singular-h": [(1, 0), (0, 0)],
    "erratum-varying-h": [(2, Fraction(1 + 3 * 3, 1 + 3))],
    "erratum-closer": [
        (0, sqrt(9 * C**2 / (1 + 9 * C**2))),
        (1, 0),
        (0, 1),
        (0, sqrt(Fraction(100, 101))),
        (1, sqrt(Fraction(1, 10))),
    ],
    "erratum-overshoot": [(Fraction(1, 5), Fraction(1, 20))],
    "erratum-beta": [(1, 2)],
    "erratum-same-h": [(1, sqrt(Fraction(8, 9)))],
    "erratum-way-back": [(0, 3), (0, 1)],
}


def test_every_counterexample_is_the_one_found_by_hand(record):
    table = record.tables["counterexamples"]
    assert list(dict.fromkeys(table.key)) == list(BY_HAND)
    for key, pairs in BY_HAND.items():
        found = table[table.key == key][["printed", "holds"]].to_numpy().tolist()
        assert found == [pytest.approx([float(v) for v in pair], rel=1e-6, abs=1e-7) for pair in pairs], key
    assert len(counterexamples.counterexamples()) == len(table)


def test_faults_in_what_the_remarks_measure_are_found(monkeypatch):
    """The plug-in value for the unbiased one, an intercept left out."""
    config = theory.Config.from_profile("smoke", samples=10)
    monkeypatch.setattr(remarks.intervals, "unbiased_square", lambda plug_in, diagonal, n: plug_in)
    centred = remarks.matching.function_matching

    def uncentred(f_a, f_b, hessian=None):
        return centred(torch.cat([f_a, -f_a]), torch.cat([f_b, -f_b]), hessian)

    monkeypatch.setattr(remarks.matching, "function_matching", uncentred)
    table = theory._statements(config).set_index("key")
    assert not table.verified[["bias", "function-matching"]].any()
    assert table.verified[["p-from-attacks", "no-pairs", "cancel-h", "invariance", "cw-steepness"]].all()


def test_faults_in_samples_and_orders_are_found(monkeypatch):
    """Half of the angle ψ, a bound that forgets N, a denominator that is never zero."""
    config = theory.Config.from_profile("smoke", samples=10)
    angles = certainty.certificates._angles
    monkeypatch.setattr(certainty.certificates, "_angles", lambda r, rho: (angles(r, rho)[0], angles(r, rho)[1] / 2))
    half_width = sampling.concentration.guaranteed_half_width
    monkeypatch.setattr(
        sampling.concentration, "guaranteed_half_width", lambda n, **about: half_width(n, **about) / n**0.5
    )
    monkeypatch.setattr(sampling, "alpha1", lambda x: 1 / (0.1 + x[..., 0].abs()))
    table = theory._statements(config).set_index("key")
    found = ["angle-attained", "order-attained", "samples-alpha2", "samples-alpha1", "heavy-largest", "heavy-levels"]
    assert not table.verified[found].any()
    assert table.verified[["angle", "samples-square", "first-attacks", "no-order", "heavy-attack"]].all()


def test_the_tables_about_samples_and_orders(record):
    needed = record.tables["needed"]
    assert (needed.least < needed.alpha2).all()
    assert (needed.alpha2 < 3.2 * needed.least).all()
    outside = abs(2 * np.arange(399) - 398) > 0.1 * 398  # of the mean of 398 signs, one fewer than needed
    assert stats.binom.pmf(np.arange(399), 398, 0.5)[outside].sum() > 0.05
    assert needed.least[0] == 399
    heavy = record.tables["heavy_tails"].set_index(["summary", "n"])
    for summary in ("median", "ratio"):
        widths = (heavy.high - heavy.low)[summary]
        assert widths[10_000] < widths[100] / 3
        assert heavy.middle[summary, 10_000] == pytest.approx(heavy.truth[summary, 10_000], rel=0.02)
    assert heavy.middle["mean"].is_monotonic_increasing
    assert (heavy.largest["mean"] > 0.05).all()
    x = (np.arange(1_000_000) + 0.5) / 1_000_000
    own = abs(x - sampling.EPS / 2)
    assert heavy.truth["ratio", 100] == pytest.approx(1 / own.mean(), rel=1e-6)
    assert heavy.truth["median", 100] == pytest.approx(np.median(1 / own), rel=1e-5)
    orders = record.tables["orders"]
    assert orders.wrong.sum() == 0
    assert 0 < orders.certified.sum() < orders.pairs.sum()
    assert orders.certified.iloc[-1] > orders.certified.iloc[0]


def test_the_metrics_tend_to_those_of_the_jacobians_linearly(record):
    table = record.tables["growing_eps"]
    best = table[table.attack == "best attack"].sort_values("eps")
    error = (best.alpha1 - best.alpha1_limit).abs().to_numpy()
    assert best.eps.iloc[0] == pytest.approx(1e-4)
    assert error[0] < 1e-3
    assert error[-1] > 30 * error[0]
    assert (table.n == 40).all()
    assert (best.above_one.iloc[0]) == 0  # Proposition 2.2 needs best attacks, and has them here


def test_the_same_parameters_give_the_same_record_to_the_last_bit(record):
    assert theory.run(theory.Config.from_profile("smoke"), cache=False).digest == record.digest
    assert theory.run(theory.Config.from_profile("smoke", seed=1), cache=False).digest != record.digest
