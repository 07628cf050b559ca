"""RDKit: parsing, graphs, stereochemistry, symmetry, embedding and force fields."""

from conformergen.chem.embedding import EmbedSettings, embed
from conformergen.chem.forcefield import minimise_mmff, mmff_energies
from conformergen.chem.mapping import conformer_positions, perceive, resolve_open_stereo
from conformergen.chem.molecule import (
    ELEMENT_SYMBOLS,
    atomic_masses,
    featurise,
    largest_fragment,
    largest_ring,
    mol_from_arrays,
    mol_with_conformers,
    molecule_from_mol,
    molecule_from_smiles,
    n_rotors,
    parse_smiles,
    to_mol,
)
from conformergen.chem.symmetry import heavy_atoms, relabelings, symmetry_group
from conformergen.chem.torsion import (
    MACROCYCLE,
    Filling,
    TorsionSettings,
    distinct,
    emitted,
    fill,
    get_torsions,
    rotors,
    set_torsions,
    torsion_minima,
    torsion_search,
)

__all__ = [
    "ELEMENT_SYMBOLS",
    "MACROCYCLE",
    "EmbedSettings",
    "Filling",
    "TorsionSettings",
    "atomic_masses",
    "conformer_positions",
    "distinct",
    "embed",
    "emitted",
    "featurise",
    "fill",
    "get_torsions",
    "heavy_atoms",
    "largest_fragment",
    "largest_ring",
    "minimise_mmff",
    "mmff_energies",
    "mol_from_arrays",
    "mol_with_conformers",
    "molecule_from_mol",
    "molecule_from_smiles",
    "n_rotors",
    "parse_smiles",
    "perceive",
    "relabelings",
    "resolve_open_stereo",
    "rotors",
    "set_torsions",
    "symmetry_group",
    "to_mol",
    "torsion_minima",
    "torsion_search",
]
