"""Every output names the three networks that made it, and a resumed run refuses other weights."""

import hashlib
import json
import shutil

import pytest
from rdkit import Chem
from support import input_records
from typer.testing import CliRunner

from conformergen.checkpoint.folder import NETWORK_FILES, resolve
from conformergen.checkpoint.model import load_model
from conformergen.cli import app
from conformergen.errors import InputError
from conformergen.generation import stream
from conformergen.generation.output import generate_to
from conformergen.generation.settings import GenerateSettings
from conformergen.generation.stream import Pipeline

TEXTS = ("CCCCO", "OCCN", "CCSCC", "CC(C)CCN")


class _KilledError(BaseException):
    """Stands for a signal."""


@pytest.fixture
def model(tmp_path):
    """A copy of the default checkpoint, which a test may change."""
    return shutil.copytree(resolve("default"), tmp_path / "model")


def _change(model, file):
    """Replace the weights of one network by others that fit: their last byte is changed, and the digest with it."""
    data = bytearray((model / file).read_bytes())
    data[-1] ^= 1
    (model / file).write_bytes(bytes(data))
    digests = json.loads((model / "digest.json").read_text())
    digests[file] = hashlib.sha256(bytes(data)).hexdigest()
    (model / "digest.json").write_text(json.dumps(digests))


@pytest.mark.parametrize("role", NETWORK_FILES)
def test_provenance_changes_when_any_weights_file_changes(model, role):
    before = Pipeline(GenerateSettings(checkpoint=str(model))).provenance.networks
    _change(model, NETWORK_FILES[role])
    after = Pipeline(GenerateSettings(checkpoint=str(model))).provenance.networks
    assert {key for key in before if before[key] != after[key]} == {role}
    assert before.keys() == after.keys() == set(NETWORK_FILES)


@pytest.mark.parametrize("role", NETWORK_FILES)
def test_resumed_run_refuses_other_weights(model, tmp_path, monkeypatch, role):
    """A folder whose weights were replaced would give one file from two models."""
    monkeypatch.setattr(stream, "BLOCK", 2)
    settings = GenerateSettings(n=1, checkpoint=str(model), rounds=1)

    def dying():
        yield from input_records(*TEXTS)[:3]
        raise _KilledError

    out = str(tmp_path / "out.sdf")
    with pytest.raises(_KilledError):
        generate_to(dying(), out, settings)
    assert json.loads((tmp_path / "out.sdf.progress").read_text())["progress"]["networks"].keys() == set(NETWORK_FILES)
    _change(model, NETWORK_FILES[role])
    with pytest.raises(InputError, match=r"network|weights|model"):
        generate_to(input_records(*TEXTS), out, settings, resume=True)


def test_records_info_and_reports_name_every_network(tmp_path):
    runner, digests = CliRunner(), load_model().digests
    command = ["generate", "CCCCO", "-n", "2", "-o", str(tmp_path / "a.sdf")]
    assert runner.invoke(app, command).exit_code == 0
    mol = next(iter(Chem.SDMolSupplier(str(tmp_path / "a.sdf"))))
    described = runner.invoke(app, ["info", "default"]).stdout
    source = str(tmp_path / "a.sdf")
    command = ["evaluate", source, "--reference", source, "-o", str(tmp_path / "r.json")]
    assert runner.invoke(app, command).exit_code == 0
    report = json.loads((tmp_path / "r.json").read_text())
    for role, digest in digests.items():
        assert f"{role}={digest[:16]}" in mol.GetProp("model_digests")
        assert digest in described
        assert f"{role}={digest[:16]}" in report["generated_by"][0]
