"""Tests of ``conformergen.io.formats.xyz``."""

import numpy as np
import pytest
from rdkit import Chem
from support import EXCHANGED, positions_of

from conformergen.errors import InputError
from conformergen.io.formats import READERS, detect_format


def test_crest_files_are_matched_to_the_smiles_beside_them(exchanged, tmp_path):
    """Another atom order, no bonds, energies in hartree; without the EXCHANGED bond orders are perceived."""
    ref = exchanged[0][0]
    order = np.random.default_rng(0).permutation(ref.GetNumAtoms())
    lines = []
    for i, xyz in enumerate(positions_of(ref)):
        lines += [str(len(order)), f"        {-20.5 + 0.001 * i:.8f}"]
        lines += [f"{ref.GetAtomWithIdx(int(a)).GetSymbol()} {' '.join(f'{x:.6f}' for x in xyz[a])}" for a in order]
    path = tmp_path / "crest_conformers.xyz"
    path.write_text("\n".join(lines) + "\n")
    (perceived,) = READERS[detect_format(path)](path)
    assert Chem.CanonSmiles(perceived.smiles) == Chem.CanonSmiles(EXCHANGED[0])
    (tmp_path / "crest_conformers.smi").write_text(f"{EXCHANGED[0]} acid\n")
    (matched,) = READERS["xyz"](path)
    assert matched.energies == pytest.approx([0.0, 0.6275, 1.2550], abs=1e-3)
    # The match may be any automorphism: compare what does not depend on the order.
    for mol, expected in zip(matched.conformers, positions_of(ref), strict=True):
        found = mol.GetConformer().GetPositions()
        radii = [np.sort(np.linalg.norm(p - p.mean(0), axis=1)) for p in (found, expected)]
        np.testing.assert_allclose(*radii, atol=1e-4)
        assert Chem.MolToSmiles(Chem.RemoveHs(mol)) == Chem.CanonSmiles(EXCHANGED[0])
    (tmp_path / "crest_conformers.smi").write_text("CCCCC\n")
    assert READERS["xyz"](path).__next__().error
    path.write_text("3\n\nH 0 0\n")
    with pytest.raises(InputError, match="line 1"):
        list(READERS["xyz"](path))
