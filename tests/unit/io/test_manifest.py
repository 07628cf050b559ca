"""Tests of ``conformergen.io.manifest``."""

import json

import pytest

from conformergen.errors import DataError, InputError
from conformergen.io.manifest import MANIFEST, Manifest, ShardLine, read_manifest, write_manifest
from conformergen.records import Failure


def test_manifest_survives_its_file_and_notices_a_change(tmp_path):
    failure = Failure(index=3, input="C(", name="x", reason="parse", message="cannot be read")
    units = (
        ShardLine(name="a.h5", molecules=2, conformers=5, requested=3, dropped={"stereo": 1}, failures=(failure,)),
        ShardLine(name="b.h5", requested=1),
    )
    manifest = Manifest(configuration={"starts": {"mmff94s": True}}, units=units)
    write_manifest(tmp_path, manifest)
    again = read_manifest(tmp_path)
    assert again == manifest
    assert (again.requested, again.molecules, again.conformers, again.dropped) == (4, 2, 5, {"stereo": 1})
    assert again.failures == [failure]
    assert again.shards == units[:1]
    assert again.starts_are_minimised
    values = json.loads((tmp_path / MANIFEST).read_text())
    values["molecules"] = 3
    (tmp_path / MANIFEST).write_text(json.dumps(values))
    with pytest.raises(DataError, match="damaged"):
        read_manifest(tmp_path)
    with pytest.raises(InputError, match="no manifest"):
        read_manifest(tmp_path / "none")
