"""RDKit: parsing, graphs, stereochemistry, symmetry, embedding, force fields and rotatable torsions."""

from conformergen.chem.atom_mapping import conformer_positions, perceive, resolve_open_stereo
from conformergen.chem.embedding import EmbedSettings, embed
from conformergen.chem.forcefield import minimise_mmff, mmff_energies
from conformergen.chem.molecule import (
    ELEMENT_SYMBOLS,
    atomic_masses,
    featurise,
    is_macrocycle,
    largest_fragment,
    mol_from_arrays,
    mol_with_conformers,
    molecule_from_mol,
    molecule_from_smiles,
    n_rotatable_bonds,
    parse_smiles,
    to_mol,
)
from conformergen.chem.rotatable import get_torsions, rotatable_torsions, set_torsions, torsion_periods
from conformergen.chem.symmetry import heavy_atoms, relabelings, symmetry_group

__all__ = [
    "ELEMENT_SYMBOLS",
    "EmbedSettings",
    "atomic_masses",
    "conformer_positions",
    "embed",
    "featurise",
    "get_torsions",
    "heavy_atoms",
    "is_macrocycle",
    "largest_fragment",
    "minimise_mmff",
    "mmff_energies",
    "mol_from_arrays",
    "mol_with_conformers",
    "molecule_from_mol",
    "molecule_from_smiles",
    "n_rotatable_bonds",
    "parse_smiles",
    "perceive",
    "relabelings",
    "resolve_open_stereo",
    "rotatable_torsions",
    "set_torsions",
    "symmetry_group",
    "to_mol",
    "torsion_periods",
]
