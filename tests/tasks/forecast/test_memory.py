"""Data that are larger than the memory they may have."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.tasks.forecast.files import run_python

_CHILD = """
import resource, sys
from pathlib import Path
import numpy as np
from penstock.tasks.forecast import data
from penstock.tasks.forecast.config import Config
from penstock.data.batches import EvenBatchSampler

def prepared(name, **options):
    folder = Path(sys.argv[1]) / f"{name}-prepared"
    folder.mkdir()
    path = Path(sys.argv[1]) / f"{name}.csv"
    config = Config.model_validate({"data": path, "output": "m", "window": 96, "horizon": 24, **options})
    data.prepare(config, folder)
    layout = data.Layout.from_json((folder / "series.json").read_text(), "series.json")
    windows = data.open_prepared(config, folder, layout)["train"]
    for batch, _ in zip(EvenBatchSampler(len(windows), 256, shuffle=True), range(5)):
        data.collate([windows[i] for i in batch])
    return len(windows), sum(file.stat().st_size for file in folder.iterdir())

prepared("small")  # what is loaded and kept once
before = int(open("/proc/self/status").read().split("VmData:")[1].split()[0]) << 10
limit = before + (int(sys.argv[2]) << 20)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
print(*prepared("wide"), *prepared("long", id_column="id", target="value", known_columns=["price"]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit a process's own memory")
def test_windows_are_cut_from_the_disk(tmp_path: Path) -> None:
    """A process that may have 9 MB more than it began with prepares 13 MB of numbers and cuts windows."""
    values = np.random.default_rng(0).integers(0, 100, (100_000, 16)).tolist()
    heading = ",".join(f"s{i}" for i in range(16))
    for name, rows in (("small", values[:5000]), ("wide", values)):
        (tmp_path / f"{name}.csv").write_text(
            "\n".join([heading, *(",".join(map(str, row)) for row in rows)])
        )
    lines = (f"{i // 2000},{i % 2000},{row[0]},{row[1]}" for i, row in enumerate(values * 2))
    (tmp_path / "long.csv").write_text("id,time,value,price\n" + "\n".join(lines))
    windows, size, more_windows, more_size = map(int, run_python(_CHILD, tmp_path, 9).split())
    assert min(windows, more_windows) > 100_000
    assert size > 12 << 20
    assert more_size > 3 << 20
