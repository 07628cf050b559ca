"""Files and options of version 0.1 still work. Files of each room are tested in that room (``io``, ``reference``)."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import conformergen
from conformergen.checkpoint.model import load_model
from conformergen.cli import app


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["--steps", "3"], ["--rounds", "2"]),
        (["--seeds", "etkdg"], ["--start", "etkdg"]),
    ],
)
def test_former_options_of_generate_give_the_same_bytes(tmp_path, old, new):
    made = []
    for name, options in (("old", old), ("new", new)):
        out = tmp_path / f"{name}.xyz"
        done = CliRunner().invoke(app, ["generate", "CCCCO", "-n", "2", "-o", str(out), *options])
        assert done.exit_code == 0, done.output
        made.append(out.read_bytes())
    assert made[0] == made[1]
    help_text = CliRunner().invoke(app, ["generate", "--help"]).stdout
    assert old[0] not in help_text
    assert new[0] in help_text


def test_former_options_of_preprocess_and_names_of_pairings_work(tmp_path):
    (tmp_path / "in.smi").write_text("CCO a\n")
    made = CliRunner().invoke(
        app, ["generate", str(tmp_path / "in.smi"), "-n", "3", "--method", "etkdg", "-o", str(tmp_path / "a.sdf")]
    )
    assert made.exit_code == 0
    shards = []
    for name, pairing in (("old", "relaxed"), ("new", "minimised")):
        done = CliRunner().invoke(
            app, ["preprocess", str(tmp_path / "a.sdf"), "-o", str(tmp_path / name), "--pairing", pairing]
        )
        assert done.exit_code == 0, done.output
        shards.append((tmp_path / name / "shard-00000.h5").read_bytes())
    assert shards[0] == shards[1]
    done = CliRunner().invoke(app, ["preprocess", str(tmp_path / "a.sdf"), "-o", str(tmp_path / "none"), "--no-seeds"])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "none" / "manifest.json").read_text())["configuration"]["starts"] is None


def test_former_arguments_of_python_work():
    new = conformergen.generate("CCCCO", n=2, candidates_per_conformer=3, start="etkdg")
    old = conformergen.generate("CCCCO", n=2, pool=3, seeds="etkdg")
    for a, b in zip(new.GetConformers(), old.GetConformers(), strict=True):
        np.testing.assert_array_equal(a.GetPositions(), b.GetPositions())


def test_settings_of_a_former_checkpoint_are_read():
    """The shipped checkpoint was written by version 0.1."""
    model = load_model()
    assert model.starts_mmff94s
    assert model.settings["progress"]["lr_factor"] == 1.0
