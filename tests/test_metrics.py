"""The metrics, checked against scikit-learn and against known intervals."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("rows", [1, 5, 200])
def test_metrics_agree_with_scikit_learn(pf, classes, rows):
    rng = np.random.default_rng(classes * 1000 + rows)
    for _ in range(20):
        logits = rng.normal(size=(rows, classes))
        labels = rng.integers(classes, size=rows)
        predictions = logits.argmax(axis=1)
        average = "binary" if classes == 2 else "macro"
        expected = precision_recall_fscore_support(
            labels, predictions, average=average, zero_division=0
        )
        got = pf.compute_metrics((logits, labels))
        assert got["accuracy"] == pytest.approx(accuracy_score(labels, predictions))
        assert [got["precision"], got["recall"], got["f1"]] == pytest.approx(
            expected[:3]
        )
        assert all(type(value) is float for value in got.values())


def test_metrics_of_a_model_that_answers_one_label(pf):
    labels = np.array([0, 1, 0, 1])
    always_no = pf.compute_metrics((np.array([[1.0, 0.0]] * 4), labels))
    assert always_no == {"accuracy": 0.5, "f1": 0.0, "precision": 0.0, "recall": 0.0}
    always_yes = pf.compute_metrics((np.array([[0.0, 1.0]] * 4), labels))
    assert always_yes["recall"] == 1.0
    assert always_yes["f1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [  # Newcombe (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval(pf, hits, n, low, high):
    assert pf.wilson_interval(hits / n, n) == pytest.approx((low, high), abs=1e-4)
    flipped = pf.wilson_interval(1 - hits / n, n)
    assert flipped == pytest.approx((1 - high, 1 - low), abs=1e-4)
