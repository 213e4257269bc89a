"""A model's folder: what is wrong with it is said in one sentence that names the file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import load_file, save_file

from penstock.errors import InputError
from penstock.training.job import Job
from penstock.training.saved import read_model, save_model
from tests.training.toy import ToyConfig, ToyModel, toy_config


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    job = SimpleNamespace(
        task="toy",
        model=ToyModel(8, 0.5),
        config=toy_config(folder),
        assets=lambda: {"words.json": '["pad", "één", "二"]'},
        architecture=lambda: {"hidden_size": 8, "dropout": 0.5},
    )
    save_model(folder, cast(Job, job), {"dev": {"accuracy": 0.5}})
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "model")


def load(folder: Path) -> ToyModel:
    return read_model(folder, "toy").build(lambda config, **sizes: ToyModel(**sizes), None)


def test_what_is_saved_is_read(folder: Path) -> None:
    model = read_model(folder, "toy")
    assert model.parse_config(ToyConfig) == toy_config(Path(model.config["output"]))
    assert model.assets == {"words.json": '["pad", "één", "二"]'}
    assert model.metrics == {"dev": {"accuracy": 0.5}}
    again = load(folder)
    assert all(
        torch.equal(w, load_file(folder / "model.safetensors")[n]) for n, w in again.state_dict().items()
    )


def test_no_pickle_is_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("a pickle was read")

    monkeypatch.setattr("pickle.load", refuse)
    monkeypatch.setattr("torch.load", refuse)
    load(folder)


def change(name: str, **values: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, **values}))

    return apply


def truncate(name: str, size: int) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:size])

    return apply


def write(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def tensors(edit: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = load_file(folder / "model.safetensors")
        edit(content)
        save_file(content, folder / "model.safetensors")

    return apply


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (shutil.rmtree, r"model: no such folder"),
        (remove("config.json"), r"model: not a Penstock model, it has no config\.json"),
        (truncate("config.json", 60), r"config\.json, line \d+, column \d+: the JSON ends too early"),
        (truncate("config.json", 0), r"config\.json: expected JSON, got an empty file"),
        (lambda f: (f / "config.json").write_text("[1]"), r"config\.json: .* no format_version"),
        (
            lambda f: (f / "config.json").write_text('{"model_type": "bert"}'),
            r"config\.json: .* no format_version",
        ),
        (change("config.json", format_version=99), r"config\.json: format_version 99 is newer"),
        (change("config.json", task=None), r"config\.json: expected 'task' to be a str, got None"),
        (change("config.json", task="tag"), r"config\.json: expected a model for 'toy', got one for 'tag'"),
        (
            change("config.json", architecture={"units": 3}),
            r"config\.json: 'architecture' describes no model",
        ),
        (remove("words.json"), r"words\.json: no such file, the model needs it"),
        (write("words.json", b"\xff\xfe"), r"words\.json: cannot be read"),
        (remove("metrics.json"), r"metrics\.json: no such file"),
        (remove("model.safetensors"), r"model\.safetensors: no such file"),
        (truncate("model.safetensors", 500), r"model\.safetensors: truncated or not a safetensors file"),
        (truncate("model.safetensors", 0), r"model\.safetensors: truncated or not a safetensors file"),
        (
            lambda f: (f / "model.safetensors").write_text("weights " * 99),
            r"model\.safetensors: truncated or not",
        ),
        (
            tensors(lambda t: t.pop("output.bias")),
            r"model\.safetensors: no tensor 'output\.bias', .* shape \(2,\)",
        ),
        (
            tensors(lambda t: t.update({"output.bias": torch.zeros(3)})),
            r"model\.safetensors: tensor 'output\.bias': expected shape \(2,\), got \(3,\)",
        ),
        (tensors(lambda t: t.update(x=torch.zeros(1))), r"model\.safetensors: unexpected tensor 'x'"),
    ],
)
def test_a_broken_folder_is_said_to_be_broken(
    folder: Path, harm: Callable[[Path], Any], message: str
) -> None:
    harm(folder)
    with pytest.raises(InputError, match=message) as error:
        load(folder)
    assert str(error.value).startswith(str(folder))
    assert "\n" not in str(error.value)


def test_a_foreign_configuration_is_said(folder: Path) -> None:
    class Other(BaseModel):
        depth: int

    with pytest.raises(InputError, match=r"config\.json: config\.depth: field required"):
        read_model(folder).parse_config(Other)
    change("config.json", config={"output": "model", "epochs": -3})(folder)
    with pytest.raises(InputError, match=r"config\.json: config\.epochs: input should be greater"):
        read_model(folder).parse_config(ToyConfig)


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("x")
    with pytest.raises(InputError, match="expected the folder of a model, got a file"):
        read_model(tmp_path / "model")
