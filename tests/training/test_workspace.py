"""Where a run writes, what it refuses, and what it leaves."""

from pathlib import Path

import pytest

from penstock.errors import InputError
from penstock.training.config import TrainingOptions
from penstock.training.workspace import Workspace, stored_config, to_yaml
from tests.training.toy import toy_config


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def claim(config: TrainingOptions) -> None:
    with Workspace(config.output).claim(config):
        pass


def test_a_claim_without_a_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    config = toy_config(tmp_path / "deep" / "model")
    with Workspace(config.output).claim(config) as workspace:
        assert (workspace.folder / "config.yaml").exists()
    assert list((tmp_path / "deep").iterdir()) == []


def test_other_files_are_never_replaced(tmp_path: Path) -> None:
    fill(tmp_path / "model", "thesis.txt")
    config = toy_config(tmp_path / "model", overwrite=True)
    with (
        pytest.raises(InputError, match="holds other files and no model"),
        Workspace(config.output).claim(config),
    ):
        pass
    assert (tmp_path / "model" / "thesis.txt").exists()


def test_a_file_in_place_of_the_folder_is_said(tmp_path: Path) -> None:
    fill(tmp_path, "model")
    config = toy_config(tmp_path / "model")
    with (
        pytest.raises(InputError, match="expected a folder, got a file"),
        Workspace(config.output).claim(config),
    ):
        pass


def test_foreign_files_where_the_run_would_be_are_never_removed(tmp_path: Path) -> None:
    fill(tmp_path / "model.training", "notes.txt")
    config = toy_config(tmp_path / "model", overwrite=True)
    with pytest.raises(InputError, match="holds other files"):
        claim(config)
    assert (tmp_path / "model.training" / "notes.txt").exists()


def test_an_unfinished_training_is_resumed_or_discarded_but_not_forgotten(tmp_path: Path) -> None:
    config = toy_config(tmp_path / "model")
    workspace = Workspace(config.output)
    with workspace.claim(config):
        fill(workspace.folder, "checkpoints/last.ckpt", "data/rows")
    assert workspace.last.exists()
    assert not workspace.data.exists()
    assert stored_config(config.output) == workspace.folder / "config.yaml"
    with pytest.raises(InputError, match="an unfinished training lies here"):
        claim(config)
    with workspace.claim(toy_config(config.output, resume=True)):
        assert workspace.last.exists()
    with workspace.claim(toy_config(config.output, overwrite=True)):
        assert not workspace.last.exists()


def test_a_finished_training_is_resumed_in_a_copy_that_goes_if_nothing_comes_of_it(tmp_path: Path) -> None:
    config = toy_config(tmp_path / "model", resume=True)
    fill(tmp_path / "model", "config.json", "checkpoints/last.ckpt", "logs/epochs.csv")
    (tmp_path / "model" / "config.yaml").write_text(to_yaml(config))
    with Workspace(config.output).claim(config) as workspace:
        assert workspace.last.read_text() == "checkpoints/last.ckpt"
    with pytest.raises(InputError, match="has hidden_size=8, got 9"):
        claim(toy_config(config.output, hidden_size=9, resume=True))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with Workspace(config.output).claim(config) as workspace:
        workspace.last.write_text("new")
    assert workspace.last.read_text() == "new"
    assert (tmp_path / "model" / "checkpoints" / "last.ckpt").read_text() != "new"


def test_nothing_to_resume_is_said(tmp_path: Path) -> None:
    config = toy_config(tmp_path / "model", resume=True)
    with pytest.raises(InputError, match="nothing to resume"):
        claim(config)
    assert list(tmp_path.iterdir()) == []


def test_two_trainings_do_not_write_to_one_folder(tmp_path: Path) -> None:
    config = toy_config(tmp_path / "model")
    with (
        Workspace(config.output).claim(config),
        pytest.raises(InputError, match="another training is writing"),
        Workspace(config.output).claim(config),
    ):
        pass


def test_publishing_replaces_what_was_there(tmp_path: Path) -> None:
    fill(tmp_path / "model", "config.json", "old.txt")
    config = toy_config(tmp_path / "model", overwrite=True)
    workspace = Workspace(config.output)
    with workspace.claim(config):
        fill(workspace.folder, "checkpoints/last.ckpt", "config.json")
        workspace.publish()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not (tmp_path / "model" / "old.txt").exists()


@pytest.mark.parametrize("output", [".", "..", "../here"])
def test_the_current_folder_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match="expected another folder than the current one"):
        claim(toy_config(Path(output)))
