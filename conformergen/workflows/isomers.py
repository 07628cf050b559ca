"""From an input SMILES to the species whose conformers are made."""

from dataclasses import replace
from typing import Final

from rdkit import Chem
from rdkit.Chem.EnumerateStereoisomers import EnumerateStereoisomers, StereoEnumerationOptions

from conformergen.chem import (
    EmbedSettings,
    embed,
    mol_with_conformers,
    molecule_from_mol,
    molecule_from_smiles,
    parse_smiles,
    resolve_open_stereo,
)
from conformergen.errors import MoleculeError
from conformergen.records import Molecule

#: What to do with stereo that the input leaves open.
STEREO_POLICIES: Final = ("sample", "enumerate", "error")
#: Isomers enumerated for one input at most.
MAX_ISOMERS: Final = 32


def has_open_stereo(molecule: Molecule) -> bool:
    """Whether the SMILES leaves a stereocentre or double bond unspecified that RDKit can specify.

    Imines with nothing but a hydrogen on the nitrogen (amidines, guanidines) and allenes are none of these.
    """
    mol = parse_smiles(molecule.smiles)
    options = StereoEnumerationOptions(onlyUnassigned=True, maxIsomers=1)
    return any(Chem.MolToSmiles(isomer) != molecule.smiles for isomer in EnumerateStereoisomers(mol, options=options))


def choose_isomer(smiles: str, name: str, *, seed: int, max_atoms: int = 999) -> Molecule:
    """Molecule of a SMILES; open stereo is that of one ETKDG conformer, the same for every run and seed.

    Raises:
        MoleculeError: As ``molecule_from_smiles`` and ``embed``.
    """
    molecule = molecule_from_smiles(smiles, name, max_atoms=max_atoms)
    if not has_open_stereo(molecule):
        return molecule
    guess = embed(molecule, 1, seed=seed, settings=EmbedSettings(mmff94s=False))
    chosen = resolve_open_stereo(parse_smiles(molecule.smiles), mol_with_conformers(molecule, guess), name)
    if chosen.smiles == molecule.smiles:
        return molecule
    return replace(chosen, source_smiles=smiles, stereo="sampled")


def isomers(smiles: str, name: str, *, policy: str, seed: int, max_atoms: int = 999) -> list[Molecule]:
    """Species of one input under a policy of ``STEREO_POLICIES``.

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
    found = EnumerateStereoisomers(parse_smiles(molecule.smiles), options=options)
    return [
        molecule_from_mol(isomer, f"{name}_iso{i}", source_smiles=smiles, max_atoms=max_atoms, stereo="sampled")
        for i, isomer in enumerate(found, start=1)
    ]
