"""What training writes for TensorBoard."""

import os
import subprocess
import sys
from pathlib import Path

WRITE = (
    "from penstock.training.tensorboard import SummaryWriter; SummaryWriter({!r}).add_scalar('loss', 1, 1)"
)


def test_an_installed_tensorflow_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("raise RuntimeError('loaded')")
    done = subprocess.run(
        [sys.executable, "-c", WRITE.format(str(tmp_path / "logs"))],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((tmp_path / "logs").iterdir())) == 1
