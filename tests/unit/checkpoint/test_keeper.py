"""Tests of ``conformergen.checkpoint.keeper``."""

import pytest

from conformergen.checkpoint.keeper import KEPT, CheckpointKeeper, restore_newest
from conformergen.errors import DataError, OtherRunError


def test_best_and_newest_checkpoints_are_kept(tmp_path):
    written = []

    def write(folder, losses):
        folder.mkdir(exist_ok=True)
        (folder / "digest.json").write_text("{}")
        written.append((folder.name, losses["val_loss"], losses["best_val_loss"]))

    keeper = CheckpointKeeper(tmp_path, write, best=None)
    for step, loss in ((1, 3.0), (2, 2.0), (3, 4.0), (4, 5.0), (5, 1.0)):
        keeper.save(step, loss, exportable=step != 5)
    assert keeper.best == 2.0
    assert keeper.newest == 1.0
    assert [name for name, *_ in written if name == "best"] == ["best", "best"]
    assert len([p for p in tmp_path.iterdir() if p.name.startswith("ckpt-")]) == KEPT


def test_newest_intact_checkpoint_is_restored(tmp_path):
    warnings = []

    def load(folder):
        if folder.name == "damaged":
            raise DataError("damaged: digest")
        if folder.name == "other":
            raise OtherRunError("other settings")
        return {"from": folder.name}

    assert restore_newest([tmp_path / "damaged", tmp_path / "old"], load, warnings.append) == {"from": "old"}
    assert "digest" in warnings[0]
    assert restore_newest([], load, warnings.append) is None
    with pytest.raises(OtherRunError):
        restore_newest([tmp_path / "other", tmp_path / "old"], load, warnings.append)
    with pytest.raises(DataError, match="none of 1"):
        restore_newest([tmp_path / "damaged"], load, warnings.append)
