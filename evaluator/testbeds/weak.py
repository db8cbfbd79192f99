"""Weak teachers: the models whose errors a recipe has to overcome.

A teacher is a logistic regression on features of the text: tf-idf of words (`tfidf`), or the hidden states of
a small transformers model. It is trained `SEEDS` times, each time on its own stratified share of the labelled
rows, the seed 0 that labels the training pool included: so the mean accuracy over seeds is an unbiased
estimate of that teacher's.

Probabilities are calibrated by Platt's method (Platt 1999, "Probabilistic outputs for support vector
machines") on decisions that were made out of fold. A pair is decided on the difference of its replies'
features without an intercept: which reply comes first cannot matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import sparse
from scipy.special import expit
from sklearn.base import BaseEstimator, clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from evaluator.errors import TestbedError
from evaluator.strong import Progress, StrongModel
from evaluator.testbeds.prepared import Template

SEEDS = 16
SHARE = 0.8  # of the labelled rows that each seed is trained on
FOLDS = 5
MINIMUM_PER_CLASS = 10
_SMALLEST_SLOPE = 0.01  # a teacher at chance keeps its ranking and says that it is unsure

Rows = Sequence[dict[str, str]]
Features: TypeAlias = np.ndarray | sparse.csr_matrix


@dataclass(frozen=True)
class WeakLabels:
    """`pool` [n, 2] float32: P(class | row) by the teacher of seed 0.

    `fitness` [seeds, m], `sealed` [seeds, k]: P(class 1).
    """

    pool: np.ndarray
    fitness: np.ndarray
    sealed: np.ndarray


def teach(
    teacher: str,
    kind: str,
    template: Template,
    *,
    labelled: Rows,
    labels: np.ndarray,
    pool: Rows,
    fitness: Rows,
    sealed: Rows,
    device: str = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
) -> WeakLabels:
    """Train the teachers on `labelled` and let them judge the other splits.

    `teacher`: "tfidf", or the hub name or folder of a transformers model, read through `template`. Raises
    TestbedError if a class has fewer than MINIMUM_PER_CLASS labels, EvaluatorError if the model cannot be
    read.
    """
    labels = np.asarray(labels)
    counts = np.bincount(labels, minlength=2)
    if counts.min() < MINIMUM_PER_CLASS:
        raise TestbedError(
            f"the weak model's labels hold {counts[0]} of class 0 and {counts[1]} of class 1; "
            f"add rows to train_label until each has at least {MINIMUM_PER_CLASS}."
        )
    splits = [labelled, pool, fitness, sealed]
    if teacher == "tfidf":
        features, classifier = (
            _tfidf(kind, splits),
            LogisticRegression(C=3.0, fit_intercept=kind == "single", max_iter=1000),
        )
    else:
        features = _hidden_states(teacher, kind, template, splits, device, progress)
        scaler = StandardScaler(
            with_mean=kind == "single"
        )  # a pair's differences have no direction, hence no mean to remove
        classifier = make_pipeline(
            scaler, LogisticRegression(C=0.01, fit_intercept=kind == "single", max_iter=1000)
        )
    judges = [
        _train(classifier, kind, features[0], labels, np.random.default_rng([seed, number]))
        for number in range(SEEDS)
    ]
    first = judges[0](features[1])
    return WeakLabels(
        pool=np.stack([1 - first, first], axis=1).astype(np.float32),
        fitness=np.stack([judge(features[2]) for judge in judges]).astype(np.float32),
        sealed=np.stack([judge(features[3]) for judge in judges]).astype(np.float32),
    )


def _train(
    classifier: BaseEstimator, kind: str, features: Features, labels: np.ndarray, rng: np.random.Generator
) -> Callable[[Features], np.ndarray]:
    """One seed's teacher: P(class 1) of features."""
    own = np.sort(np.concatenate([_share(np.flatnonzero(labels == label), rng) for label in (0, 1)]))
    features, labels = features[own], labels[own]
    folds = StratifiedKFold(
        min(FOLDS, np.bincount(labels).min()), shuffle=True, random_state=int(rng.integers(2**31))
    )
    out_of_fold = cross_val_predict(classifier, features, labels, cv=folds, method="decision_function")
    platt = LogisticRegression(C=100.0, fit_intercept=kind == "single").fit(out_of_fold[:, None], labels)
    slope, intercept = max(float(platt.coef_[0, 0]), _SMALLEST_SLOPE), float(np.ravel(platt.intercept_)[0])
    fitted = clone(classifier).fit(features, labels)
    return lambda others: expit(slope * fitted.decision_function(others) + intercept)


def _share(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(rows)[: max(2, round(SHARE * len(rows)))]


def _tfidf(kind: str, splits: list[Rows]) -> list[Features]:
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=1, ngram_range=(1, 1))
    if kind == "single":
        texts = [[f"{row['question']}\n{row['choice']}" for row in rows] for rows in splits]
        vectorizer.fit(texts[0])
        return [vectorizer.transform(one) for one in texts]
    vectorizer.fit([row[reply] for row in splits[0] for reply in ("first", "second")])
    return [
        vectorizer.transform([row["first"] for row in rows])
        - vectorizer.transform([row["second"] for row in rows])
        for rows in splits
    ]


def _hidden_states(
    name: str, kind: str, template: Template, splits: list[Rows], device: str, progress: Progress | None
) -> list[np.ndarray]:
    model = StrongModel.load(name, device=device)
    rendered = [template.render(row) for rows in splits for row in rows]
    places = [model.hidden_states(texts, [-1], progress)[-1] for texts in zip(*rendered, strict=True)]
    states = places[0] - places[1] if kind == "pair" else places[0]
    return np.split(states, np.cumsum([len(rows) for rows in splits])[:-1])
