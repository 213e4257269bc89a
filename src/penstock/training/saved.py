"""A model as a folder: written once, read back without a pickle, and clear about what is wrong with it.

config.json names the format, the task, the configuration, the constructor arguments and the assets;
model.safetensors holds the weights; the assets (vocabularies, labels, scalers) are JSON or text.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from penstock import __version__
from penstock.errors import InputError
from penstock.files import atomic_write, read_json
from penstock.training.config import STARTED_FROM
from penstock.training.workspace import to_dict, to_yaml

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import Tensor, nn

    from penstock.training.job import Job

FORMAT_VERSION = 1

Model = TypeVar("Model", bound="BaseModel")
Network = TypeVar("Network", bound="nn.Module")


def save_model(folder: Path, job: "Job", metrics: dict[str, Any]) -> None:
    """Write everything that `read_model` needs to `folder`; config.json, which makes it a model, comes last.

    Args:
        folder: made if missing; its other files stay.
        job: with the trained model.
        metrics: what metrics.json is to hold.
    """
    from safetensors.torch import save  # noqa: PLC0415  (reading config.json must not import torch)

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in job.model.state_dict().items()}
    with atomic_write(folder / "model.safetensors", "wb") as file:
        file.write(save(tensors, metadata={"format": "pt"}))
    assets = job.assets()
    texts = {
        **assets,
        "metrics.json": _json(metrics),
        "config.yaml": to_yaml(job.config),
        "config.json": _json(
            {
                "format_version": FORMAT_VERSION,
                "penstock_version": __version__,
                "task": job.task,
                "architecture": job.architecture(),
                "assets": sorted(assets),
                "config": to_dict(job.config),
            }
        ),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as file:
            file.write(text)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class SavedModel:
    """What a model folder holds, apart from the weights.

    Attributes:
        folder: where it was read from.
        task: the verb it was trained by.
        config: the full configuration of its training.
        architecture: the constructor arguments of its model.
        assets: file name -> text.
        metrics: the figures at the end of its training.
    """

    folder: Path
    task: str
    config: dict[str, Any]
    architecture: dict[str, Any]
    assets: dict[str, str]
    metrics: dict[str, Any]

    def parse_config(self, model: type[Model]) -> Model:
        """The configuration as the task's pydantic class.

        Raises:
            InputError: config.json holds another task's configuration, or a value that is out of range.
        """
        from pydantic import ValidationError  # noqa: PLC0415  (reading config.json alone must be fast)

        try:
            return model.model_validate({k: v for k, v in self.config.items() if k not in STARTED_FROM})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, ("config", *first["loc"])))
            raise InputError(f"{self.folder / 'config.json'}: {where}: {first['msg'].lower()}") from None

    def build(self, model_class: Callable[..., Network], config: Any) -> Network:
        """The model with its stored weights.

        Raises:
            InputError: config.json describes no such model, or the weights are not its weights.
        """
        try:
            model = model_class(config, **self.architecture)
        except (TypeError, ValueError, RuntimeError, LookupError) as error:
            path = self.folder / "config.json"
            raise InputError(f"{path}: 'architecture' describes no model of this task ({error})") from None
        self.load_weights(model)
        return model

    def load_weights(self, model: "nn.Module", grow: bool = False) -> None:
        """Put the stored weights into `model`.

        Args:
            model: of the shapes stored.
            grow: whether its embeddings may have more rows; a new one becomes what the first one is, that of
                the unknown.

        Raises:
            InputError: the file is missing or truncated, or its tensors are not those of the model.
        """
        from safetensors import SafetensorError  # noqa: PLC0415
        from safetensors.torch import load_file  # noqa: PLC0415

        path = self.folder / "model.safetensors"
        try:
            tensors = load_file(path)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: truncated or not a safetensors file ({error})") from None
        if grow:
            _add_rows(tensors, model)
        _check_tensors(path, {name: tuple(t.shape) for name, t in tensors.items()}, model)
        model.load_state_dict(tensors)


def _add_rows(tensors: "dict[str, Tensor]", model: "nn.Module") -> None:
    """Give every embedding among `tensors` as many rows as it has in `model`."""
    from torch import nn  # noqa: PLC0415

    for name, module in model.named_modules():
        stored = tensors.get(f"{name}.weight")
        if isinstance(module, nn.Embedding) and stored is not None:
            new = max(0, len(module.weight) - len(stored))
            tensors[f"{name}.weight"] = stored[[*range(len(stored)), *[0] * new]]


def _check_tensors(path: Path, found: dict[str, tuple[int, ...]], model: "nn.Module") -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name, shape in expected.items():
        if name not in found:
            raise InputError(f"{path}: no tensor {name!r}, which config.json describes with shape {shape}")
        if found[name] != shape:
            raise InputError(f"{path}: tensor {name!r}: expected shape {shape}, got {found[name]}")
    for name in found:
        if name not in expected:
            raise InputError(f"{path}: unexpected tensor {name!r}, config.json describes none of that name")


def read_model(folder: Path | str, task: str | None = None) -> SavedModel:
    """Read a model folder, without its weights and without importing torch.

    Args:
        folder: what training wrote.
        task: the task it has to be of; None for any.

    Raises:
        InputError: naming the file that is missing, truncated, foreign, or of a later version.
    """
    folder = Path(folder)
    if not folder.exists():
        raise InputError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise InputError(f"{folder}: expected the folder of a model, got a file")
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{folder}: not a Penstock model, it has no config.json")
    config = read_json(path)
    if not isinstance(config, dict) or not isinstance(config.get("format_version"), int):
        raise InputError(f"{path}: not the config.json of a Penstock model, it has no format_version")
    if config["format_version"] > FORMAT_VERSION:
        raise InputError(
            f"{path}: format_version {config['format_version']} is newer than this Penstock knows "
            f"({FORMAT_VERSION}); it was written by Penstock {config.get('penstock_version')}"
        )
    for key, kind in {"task": str, "architecture": dict, "assets": list, "config": dict}.items():
        if not isinstance(config.get(key), kind):
            raise InputError(f"{path}: expected {key!r} to be a {kind.__name__}, got {config.get(key)!r}")
    if task not in (None, config["task"]):
        raise InputError(f"{path}: expected a model for {task!r}, got one for {config['task']!r}")
    return SavedModel(
        folder,
        config["task"],
        config["config"],
        config["architecture"],
        {name: _text(folder / name) for name in config["assets"]},
        read_json(folder / "metrics.json"),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, the model needs it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
