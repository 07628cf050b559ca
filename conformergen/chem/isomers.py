"""From an input SMILES to the species whose conformers are generated."""

from dataclasses import replace
from typing import Final

from rdkit import Chem
from rdkit.Chem.EnumerateStereoisomers import EnumerateStereoisomers, StereoEnumerationOptions

from conformergen.chem.atom_mapping import resolve_open_stereo
from conformergen.chem.embedding import EmbedSettings, embed
from conformergen.chem.molecule import heavy_mol, mol_with_conformers, molecule_from_mol, molecule_from_smiles
from conformergen.errors import MoleculeError
from conformergen.records import Molecule

#: Treatment of stereo that the input leaves open.
STEREO_POLICIES: Final = ("sample", "enumerate", "error")
#: Largest number of isomers enumerated for one input.
MAX_ISOMERS: Final = 32


def has_open_stereo(molecule: Molecule) -> bool:
    """Whether the SMILES leaves a stereocentre or double bond unspecified that RDKit can specify.

    Imines that carry only a hydrogen on the nitrogen (amidines, guanidines) and allenes do not count.
    """
    options = StereoEnumerationOptions(onlyUnassigned=True, maxIsomers=1)
    isomers = EnumerateStereoisomers(heavy_mol(molecule), options=options)
    return any(Chem.MolToSmiles(isomer) != molecule.smiles for isomer in isomers)


def choose_isomer(smiles: str, name: str, *, seed: int, max_atoms: int = 999) -> Molecule:
    """Molecule of a SMILES; open stereo is taken from one ETKDG conformer.

    Raises:
        MoleculeError: As ``molecule_from_smiles`` and ``embed``.
    """
    molecule = molecule_from_smiles(smiles, name, max_atoms=max_atoms)
    if not has_open_stereo(molecule):
        return molecule
    guess = embed(molecule, 1, seed=seed, settings=EmbedSettings(mmff94s=False))
    chosen = resolve_open_stereo(heavy_mol(molecule), mol_with_conformers(molecule, guess), name)
    if chosen.smiles == molecule.smiles:
        return molecule
    return replace(chosen, source_smiles=smiles, stereo="sampled")


def isomers(smiles: str, name: str, *, policy: str, seed: int, max_atoms: int = 999) -> list[Molecule]:
    """Species of one input under one of ``STEREO_POLICIES``.

    Raises:
        MoleculeError: ``stereo`` for open stereo under ``error``; otherwise as ``choose_isomer``.
    """
    if policy == "sample":
        return [choose_isomer(smiles, name, seed=seed, max_atoms=max_atoms)]
    molecule = molecule_from_smiles(smiles, name, max_atoms=max_atoms)
    if not has_open_stereo(molecule):
        return [molecule]
    if policy == "error":
        raise MoleculeError("stereo", "open stereo: give it, or use --stereo sample or enumerate")
    options = StereoEnumerationOptions(unique=True, onlyUnassigned=True, maxIsomers=MAX_ISOMERS)
    found = EnumerateStereoisomers(heavy_mol(molecule), options=options)
    return [
        molecule_from_mol(isomer, f"{name}_iso{i}", source_smiles=smiles, max_atoms=max_atoms, stereo="sampled")
        for i, isomer in enumerate(found, start=1)
    ]
