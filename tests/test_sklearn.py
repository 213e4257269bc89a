"""The tasks as scikit-learn estimators: parameters, cloning, pickling, pipelines and searches."""

import inspect
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks as checks

import penstock
from penstock import tasks
from penstock.errors import InputError
from penstock.sklearn import Forecaster, LanguageModel, SeriesClassifier, Tagger, TextClassifier
from tests.tasks.classify.files import review, waves

ESTIMATORS = [TextClassifier, SeriesClassifier, Tagger, LanguageModel, Forecaster]
SMALL: dict[str, Any] = {"hidden_size": 8, "epochs": 2, "learning_rate": 0.02, "threads": 1}
RAISE: Any = "raise"  # the stub knows numbers only
WORDS: dict[str, Any] = {**SMALL, "embedding_size": 8, "batch_rows": 16}


def reviews(count: int = 120) -> tuple[list[str], list[str]]:
    draw = random.Random(1)
    moods = [draw.choice(["good", "bad"]) for _ in range(count)]
    return [review(draw, mood) for mood in moods], moods


def sentences(count: int = 60) -> tuple[list[list[str]], list[list[str]]]:
    names = [["the", "man"], ["a", "boat"], ["the", "sea"]]
    return [[*names[k % 3], "sails"] for k in range(count)], [["DET", "NOUN", "VERB"]] * count


# What scikit-learn asks of an estimator


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize(
    "check",
    [
        checks.check_estimator_cloneable,
        checks.check_estimator_repr,
        checks.check_get_params_invariance,
        checks.check_set_params,
        checks.check_no_attributes_set_in_init,
        checks.check_do_not_raise_errors_in_init_or_set_params,
        checks.check_parameters_default_constructible,
    ],
)
def test_scikit_learn_accepts(kind: type, check: Any) -> None:
    check(kind.__name__, kind())


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_parameters_are_the_options_of_the_task(kind: Any) -> None:
    fields = tasks.get_config(kind._task).Config.model_fields
    parameters = kind().get_params()
    assert set(parameters) - {"verbose"} < set(fields)
    assert {"hidden_size", "epochs", "seed", "device"} <= set(parameters)
    assert not {"data", "output", "resume", "overwrite", "dev", "test"} & set(parameters)
    for name, value in parameters.items():
        if name != "verbose":
            default = fields[name].default
            assert value == (tuple(default) if isinstance(default, list) else default)
    assert f"hidden_size: {fields['hidden_size'].description}" in (inspect.getdoc(kind) or "")
    with pytest.raises(TypeError, match="unknown parameter 'hiden_size'"):
        kind(hiden_size=3)
    with pytest.raises(NotFittedError):
        kind().save("nowhere")


def test_a_wrong_parameter_is_said_when_it_is_used() -> None:
    with pytest.raises(InputError, match=r"hidden_size: .* greater than or equal to 1, got 0"):
        TextClassifier(hidden_size=0).fit(*reviews(20))
    with pytest.raises(InputError, match="peephole=True needs cell='lstm', got cell='gru'"):
        TextClassifier(cell="gru", peephole=True).fit(*reviews(20))


# Texts


@pytest.fixture(scope="module")
def texts() -> TextClassifier:
    return TextClassifier(**{**WORDS, "epochs": 5}).fit(*reviews(300))


def test_texts(texts: TextClassifier, capsys: pytest.CaptureFixture[str]) -> None:
    X, y = reviews(40)
    assert texts.classes_.tolist() == ["bad", "good"]
    assert texts.score(X, y) > 0.9
    found = texts.predict_proba(np.array(X))
    assert found.shape == (40, 2)
    assert found.sum(1) == pytest.approx(1, abs=1e-12)
    assert (texts.classes_[found.argmax(1)] == texts.predict(pd.Series(X))).all()
    assert texts.metrics_["accuracy"] > 0.9
    assert (texts.monitor_, texts.n_iter_) == ("accuracy", 5)
    assert texts.predict_proba([]).shape == (0, 2)
    assert capsys.readouterr() == ("", "")


def test_a_fitted_estimator_survives_a_pickle_and_gives_a_model_folder(
    texts: TextClassifier, tmp_path: Path
) -> None:
    X, _ = reviews(20)
    again = pickle.loads(pickle.dumps(texts))
    assert (again.predict_proba(X) == texts.predict_proba(X)).all()
    again.save(tmp_path / "model")
    answers = penstock.load(tmp_path / "model").predict(X)
    assert [answer["label"] for answer in answers] == texts.predict(X).tolist()
    assert {"config.json", "model.safetensors", "README.md", "curves.png"} <= {
        path.name for path in (tmp_path / "model").iterdir()
    }
    with pytest.raises(InputError, match="already exists"):
        again.save(tmp_path / "model")
    again.save(tmp_path / "model", overwrite=True)


def test_labels_need_not_be_text() -> None:
    X, moods = reviews()
    y = np.array([mood == "good" for mood in moods], int)
    model = TextClassifier(**WORDS, verbose=True).fit(X, y, dev=(X[:30], y[:30]))
    assert model.classes_.tolist() == [0, 1]
    assert model.predict(X[:3]).dtype == y.dtype


def test_grid_search_in_a_pipeline() -> None:
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = make_pipeline(lower, TextClassifier(**WORDS))
    grid = GridSearchCV(pipeline, {"textclassifier__cell": ["gru", "lstm"]}, cv=2, error_score=RAISE)
    X, y = reviews()
    grid.fit(X, y)
    assert grid.best_params_["textclassifier__cell"] in ("gru", "lstm")
    assert grid.predict(X[:2]).shape == (2,)


def test_mistakes_in_texts_are_said(texts: TextClassifier) -> None:
    with pytest.raises(TypeError, match="expected a list of texts, got one text"):
        texts.predict("good")
    fresh: Any = clone(texts)
    with pytest.raises(TypeError, match=r"X\[1\]: expected a text, got float"):
        fresh.fit(["a", 1.0], ["x", "y"])
    with pytest.raises(ValueError, match="one entry for each of the 2 of X, got 3"):
        fresh.fit(["a", "b"], ["x", "y", "x"])
    assert not hasattr(fresh, "model_")


# Series, tags, language, forecasts


def test_series() -> None:
    X, y = (list(part) for part in zip(*waves(90, seed=1), strict=True))
    model = SeriesClassifier(**{**SMALL, "epochs": 5, "batch_rows": 16}).fit(X, y)
    assert model.score(X, y) > 0.8
    flat = np.stack([np.linspace(0, end, 12) for end in np.linspace(-1, 1, 40)])
    kinds = flat[:, -1] > 0
    model = SeriesClassifier(**SMALL).fit(flat[:, :, None], kinds)
    assert (model.predict(flat) == model.predict(list(flat))).all()
    with pytest.raises(ValueError, match=r"same number of channels, got \[1, 2\]"):
        model.predict([np.zeros(3), np.zeros((3, 2))])
    with pytest.raises(ValueError, match=r"X\[0\]: expected an array \(T, D\) or \(T,\)"):
        model.predict([np.zeros((2, 2, 2))])


def test_tags() -> None:
    X, y = sentences()
    small = {**WORDS, "character_hidden_size": 0, "epochs": 4}
    model = Tagger(**small).fit(X, y)
    assert model.predict([["the", "sea", "sails"], []]) == [["DET", "NOUN", "VERB"], []]
    assert model.score(X, y) == 1
    assert cross_val_score(Tagger(**small), X, y, cv=2, error_score=RAISE).shape == (2,)
    spans = [["B-X", "I-X", "O"] for _ in y]
    assert Tagger(**small).fit(X, spans, dev=(X[:9], spans[:9])).score(X, spans) > 0.9
    with pytest.raises(ValueError, match=r"y\[1\]: expected 2 tags, one a token, got 1"):
        model.fit([["a"], ["a", "b"]], [["X"], ["X"]])
    with pytest.raises(ValueError, match=r"X\[0\]: expected a text .* got 'a\\tb'"):
        model.fit([["a\tb"]], [["X"]])


def test_language() -> None:
    X = [f"The {what} was {how}." for what in ("sea", "wind") for how in ("calm", "wild")] * 20
    model = LanguageModel(**{**WORDS, "window": 16, "batch_rows": 4}).fit(X)
    assert len(model.predict(["The "], length=5)[0]) == 5
    total = model.score_samples(["The sea", "xyz"])
    assert total.shape == (2,)
    assert total[0] / 7 > total[1] / 3
    assert model.score(["The sea", "xyz"]) == pytest.approx(total.sum() / 10)
    assert model.fit(X, dev=X[:5]).metrics_["perplexity"] > 1


def test_forecasts(tmp_path: Path) -> None:
    steps = np.arange(120)
    X = np.stack([np.sin(steps / 2), 5 + np.cos(steps / 2)], 1)
    small = {**SMALL, "horizon": 4, "window": 12, "dev_fraction": 0.2}
    model = Forecaster(**small).fit(X)
    assert model.predict().shape == (4, 2)
    assert np.allclose(model.predict(X), model.predict())
    quantiles = model.predict_quantiles(X[:50])
    assert quantiles.shape == (4, 2, 3)
    assert (np.diff(quantiles) > 0).all()
    assert np.allclose(quantiles[..., 1], model.predict(X[:50]))
    assert model.score(X) < 0
    model.save(tmp_path / "model")
    further = Forecaster(resume_from=tmp_path / "model", epochs=1, threads=1).fit(X)
    assert further.predict().shape == (4, 2)  # the horizon is that of the model
    scores = cross_val_score(Forecaster(**small), X, cv=TimeSeriesSplit(2), error_score=RAISE)
    assert (scores < 0).all()
    assert Forecaster(**small).fit(X[:, 0]).predict().shape == (4, 1)

    hours = pd.DataFrame(X, columns=["a", "b"], index=pd.date_range("2024-01-01", periods=120, freq="h"))
    framed = Forecaster(**small, loss="mse").fit(hours)
    assert np.allclose(framed.predict(hours.rename_axis("time").reset_index()), framed.predict())
    assert framed.predict(hours["a"]).shape == (4, 1)
    with pytest.raises(InputError, match="expected a loss that gives quantiles, got loss='mse'"):
        framed.predict_quantiles()
    long = pd.DataFrame({"shop": ["x"] * 60 + ["y"] * 60, "day": list(range(60)) * 2, "sold": steps % 7.0})
    shops = Forecaster(**small, id_column="shop", time_column="day", target=["sold"]).fit(long)
    assert shops.predict().shape == (4, 2)
