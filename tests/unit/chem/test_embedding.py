"""Tests of ``conformergen.chem.embedding``."""

import numpy as np
import pytest

from conformergen.chem import (
    embed,
    molecule_from_smiles,
)
from conformergen.errors import MoleculeError


def test_embedding_depends_on_nothing_but_seed_and_molecule():
    molecule = molecule_from_smiles("CCCCO")
    np.testing.assert_array_equal(embed(molecule, 3, seed=5)[:2], embed(molecule, 2, seed=5))
    assert not np.array_equal(embed(molecule, 2, seed=5), embed(molecule, 2, seed=6))


def test_fallbacks_go_only_as_far_as_they_must(monkeypatch):
    """Each fallback is tried when those before it give nothing, and is recorded."""
    from conformergen.chem import embedding

    molecule = molecule_from_smiles("CCO")
    real = embedding._embed_once
    for refused, wanted in ((set(), 0), ({0}, 3), ({0, 3}, 4)):

        def refusing(mol, species, n, seed, attempt, settings, *, fallback, refused=refused):
            positions = real(mol, species, n, seed, attempt, settings, fallback=fallback)
            return positions[:0] if fallback in refused else positions

        monkeypatch.setattr(embedding, "_embed_once", refusing)
        seen = set()
        assert len(embed(molecule, 3, seed=0, on_fallback=seen.add)) == 3
        assert seen == {wanted}
    monkeypatch.setattr(embedding, "_embed_once", lambda *a, **k: np.zeros((0, 9, 3), dtype=np.float32))
    with pytest.raises(MoleculeError) as error:
        embed(molecule, 3, seed=0)
    assert error.value.reason == "embed"
