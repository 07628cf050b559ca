"""SMILES and RDKit molecules to ``Molecule`` records, and back."""

from functools import lru_cache
from typing import Final

import numpy as np
from rdkit import Chem, RDLogger
from rdkit.Chem import rdMolDescriptors
from rdkit.Chem.MolStandardize import rdMolStandardize

from conformergen.errors import MoleculeError
from conformergen.records import ATOM_FEATURES, Molecule, MolGraph

RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]  # every message is reported once, through our own failure records

#: Longest SMILES handed to RDKit: ring perception is quadratic in hostile input.
MAX_SMILES_LENGTH: Final = 10_000
#: Atoms of the largest ring from which on a molecule is a macrocycle.
MACROCYCLE: Final = 9
#: Parsed molecules that are remembered: a block of generation works on 64, with as many prepared ahead.
_REMEMBERED: Final = 256
#: RDKit's bond types and their codes in ``MolGraph.bond_types``; other types are outside the domain.
BOND_CODES: Final = {
    Chem.BondType.SINGLE: 1,
    Chem.BondType.DOUBLE: 2,
    Chem.BondType.TRIPLE: 3,
    Chem.BondType.AROMATIC: 4,
    Chem.BondType.DATIVE: 1,
}
#: The reverse of ``BOND_CODES``.
_BOND_TYPES: Final = {
    1: Chem.BondType.SINGLE,
    2: Chem.BondType.DOUBLE,
    3: Chem.BondType.TRIPLE,
    4: Chem.BondType.AROMATIC,
}
#: Symbol of each element by its atomic number.
ELEMENT_SYMBOLS: Final = tuple(Chem.GetPeriodicTable().GetElementSymbol(z) for z in range(119))
#: RDKit's labels of double bonds whose controlling atoms are on one side.
_CIS = (Chem.BondStereo.STEREOZ, Chem.BondStereo.STEREOCIS)
#: RDKit's labels of double bonds whose controlling atoms are on opposite sides.
_TRANS = (Chem.BondStereo.STEREOE, Chem.BondStereo.STEREOTRANS)
#: Sign of the signed volume for each chiral tag of RDKit.
_CHIRAL = {Chem.ChiralType.CHI_TETRAHEDRAL_CCW: 1, Chem.ChiralType.CHI_TETRAHEDRAL_CW: -1}


def parse_smiles(text: str) -> Chem.Mol:
    """Parse one SMILES without explicit hydrogens.

    Raises:
        MoleculeError: ``parse`` for a syntax error, ``sanitise`` for impossible valences, ``too-large`` for a text of
            more than ``MAX_SMILES_LENGTH`` characters.
    """
    if len(text) > MAX_SMILES_LENGTH:
        raise MoleculeError("too-large", f"SMILES of {len(text)} characters; the limit is {MAX_SMILES_LENGTH}")
    if not text or not text.isascii() or not text.isprintable():
        raise MoleculeError("parse", "a SMILES holds printable ASCII characters only")
    mol = Chem.MolFromSmiles(text)
    if mol is None:
        raw = Chem.MolFromSmiles(text, sanitize=False)
        if raw is None:
            raise MoleculeError("parse", f"not a SMILES: {text[:60]}")
        problems = "; ".join(p.Message() for p in Chem.DetectChemistryProblems(raw))
        raise MoleculeError("sanitise", problems or f"RDKit cannot sanitise {text[:60]}")
    if mol.GetNumAtoms() == 0:
        raise MoleculeError("parse", "the SMILES holds no atom")
    return mol


@lru_cache(maxsize=_REMEMBERED)
def _parsed(smiles: str) -> Chem.Mol | None:
    """Molecule of a canonical SMILES, without explicit hydrogens. It is shared: callers must not change it."""
    return Chem.MolFromSmiles(smiles)


@lru_cache(maxsize=_REMEMBERED)
def _with_hydrogens(smiles: str) -> Chem.Mol:
    """The same with explicit hydrogens; shared as well."""
    return Chem.AddHs(_parsed(smiles))


def heavy_mol(molecule: Molecule) -> Chem.Mol:
    """RDKit molecule without explicit hydrogens; its first atoms are those of the record."""
    mol = _parsed(molecule.smiles)
    assert mol is not None
    return Chem.Mol(mol)


def n_rotatable_bonds(smiles: str) -> int:
    """Number of rotatable bonds of a canonical SMILES by RDKit's strict definition, which describes flexibility."""
    return int(rdMolDescriptors.CalcNumRotatableBonds(_parsed(smiles)))


def is_macrocycle(molecule: Molecule) -> bool:
    """Whether the smallest set of smallest rings has a ring of ``MACROCYCLE`` atoms or more."""
    mol = heavy_mol(molecule)
    return max(map(len, mol.GetRingInfo().AtomRings()), default=0) >= MACROCYCLE


def largest_fragment(text: str) -> str:
    """SMILES of the largest organic fragment of a salt or mixture, with its charge as written.

    A SMILES of one fragment is returned unchanged.

    Raises:
        MoleculeError: ``domain`` where no fragment contains carbon; otherwise as ``parse_smiles``.
    """
    if "." not in text:
        return text
    mol = parse_smiles(text)
    if len(Chem.GetMolFrags(mol)) == 1:
        return text
    largest = rdMolStandardize.LargestFragmentChooser(preferOrganic=True).choose(mol)
    if not any(atom.GetAtomicNum() == 6 for atom in largest.GetAtoms()):
        raise MoleculeError("domain", "several fragments, none of them organic")
    return Chem.MolToSmiles(largest)


def molecule_from_smiles(text: str, name: str = "", *, max_atoms: int = 999) -> Molecule:
    """Parse, canonicalise and featurise one SMILES; open stereo stays open.

    Raises:
        MoleculeError: As ``parse_smiles`` and ``molecule_from_mol``.
    """
    return molecule_from_mol(parse_smiles(text), name, source_smiles=text, max_atoms=max_atoms)


def molecule_from_mol(
    mol: Chem.Mol, name: str = "", *, source_smiles: str = "", max_atoms: int = 999, stereo: str = "requested"
) -> Molecule:
    """Canonicalise and featurise an RDKit molecule; its atom order is replaced by that of the canonical SMILES.

    Raises:
        MoleculeError: ``domain`` for dummy atoms or several fragments, ``too-large`` for more than ``max_atoms`` atoms.
    """
    smiles = Chem.MolToSmiles(Chem.RemoveHs(mol))
    fixed = _parsed(smiles)
    if fixed is None:
        raise MoleculeError("sanitise", f"RDKit cannot read its own SMILES {smiles[:60]}")
    # Writing once more gives the fixed point: later parses of the stored text give the same molecule.
    smiles = Chem.MolToSmiles(Chem.Mol(fixed))
    graph_mol = _with_hydrogens(smiles)
    if any(atom.GetAtomicNum() == 0 for atom in graph_mol.GetAtoms()):
        raise MoleculeError("domain", "dummy atoms (*) have no geometry")
    if len(Chem.GetMolFrags(graph_mol)) > 1:
        raise MoleculeError("domain", "several fragments: split salts and mixtures first")
    if graph_mol.GetNumAtoms() > max_atoms:
        raise MoleculeError("too-large", f"{graph_mol.GetNumAtoms()} atoms; the limit is {max_atoms}")
    return Molecule(
        smiles=smiles,
        name=name,
        graph=featurise(graph_mol),
        source_smiles=source_smiles or smiles,
        stereo=stereo,
    )


def to_mol(molecule: Molecule) -> Chem.Mol:
    """RDKit molecule with explicit hydrogens in the atom order of the record, without conformers; a fresh copy."""
    return Chem.Mol(_with_hydrogens(molecule.smiles))


def atomic_masses(molecule: Molecule) -> np.ndarray:
    """Standard atomic weights of the elements, in u; isotope labels are ignored."""
    table = Chem.GetPeriodicTable()
    return np.array([table.GetAtomicWeight(int(z)) for z in molecule.graph.atomic_numbers])


def mol_with_conformers(molecule: Molecule, positions: np.ndarray) -> Chem.Mol:
    """RDKit molecule with one conformer per row of ``positions`` (conf, atom, 3), Å."""
    mol = to_mol(molecule)
    for row in np.asarray(positions, dtype=np.float64):
        conformer = Chem.Conformer(mol.GetNumAtoms())
        conformer.SetPositions(row)
        mol.AddConformer(conformer, assignId=True)
    return mol


def mol_from_arrays(
    atomic_numbers: np.ndarray,
    charges: np.ndarray,
    bonds: np.ndarray,
    bond_types: np.ndarray,
    positions: np.ndarray,
) -> Chem.Mol | None:
    """Build a sanitised molecule with one conformer from plain arrays; None where RDKit refuses it."""
    mol = Chem.RWMol()
    for number, charge in zip(atomic_numbers.tolist(), charges.tolist(), strict=True):
        atom = Chem.Atom(int(number))
        atom.SetFormalCharge(int(charge))
        atom.SetNoImplicit(True)  # noqa: FBT003  RDKit takes no keyword
        mol.AddAtom(atom)
    for (begin, end), code in zip(bonds.tolist(), bond_types.tolist(), strict=True):
        mol.AddBond(begin, end, _BOND_TYPES[code])
        if code == 4:
            parts = (mol.GetBondBetweenAtoms(begin, end), mol.GetAtomWithIdx(begin), mol.GetAtomWithIdx(end))
            for part in parts:
                part.SetIsAromatic(True)  # noqa: FBT003  RDKit takes no keyword
    conformer = Chem.Conformer(len(atomic_numbers))
    conformer.SetPositions(np.asarray(positions, dtype=np.float64))
    mol.AddConformer(conformer)
    try:
        Chem.SanitizeMol(mol)
    except (Chem.MolSanitizeException, ValueError):
        return None
    return mol.GetMol()


def featurise(mol: Chem.Mol) -> MolGraph:
    """Integer codes of a molecule with explicit hydrogens, and its requested stereochemistry.

    Raises:
        MoleculeError: ``domain`` for a bond type without a code.
    """
    ring_info = mol.GetRingInfo()
    features = np.zeros((mol.GetNumAtoms(), len(ATOM_FEATURES)), dtype=np.uint8)
    for atom in mol.GetAtoms():
        smallest = ring_info.MinAtomRingSize(atom.GetIdx())
        features[atom.GetIdx()] = (
            np.clip(atom.GetFormalCharge() + 8, 0, 16),
            min(atom.GetDegree(), 7),
            min(int(atom.GetHybridization()), 8),
            atom.GetIsAromatic(),
            min(smallest, 9),
            min(sum(n.GetAtomicNum() == 1 for n in atom.GetNeighbors()), 4),
            atom.GetChiralTag() in _CHIRAL,
        )
    bonds, bond_types = [], []
    for bond in mol.GetBonds():
        if bond.GetBondType() not in BOND_CODES:
            raise MoleculeError("domain", f"bond type {bond.GetBondType()} is not supported")
        bonds.append(sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())))
        bond_types.append(BOND_CODES[bond.GetBondType()])
    centres, handedness = _tetrahedral(mol)
    double_bonds, cis = _double_bonds(mol)
    return MolGraph(
        atomic_numbers=np.array([a.GetAtomicNum() for a in mol.GetAtoms()], dtype=np.uint8),
        atom_features=features,
        bonds=np.array(bonds, dtype=np.int32).reshape(-1, 2),
        bond_types=np.array(bond_types, dtype=np.uint8),
        centres=np.array(centres, dtype=np.int32).reshape(-1, 5),
        handedness=np.array(handedness, dtype=np.int8),
        double_bonds=np.array(double_bonds, dtype=np.int32).reshape(-1, 4),
        cis=np.array(cis, dtype=np.int8),
    )


def _tetrahedral(mol: Chem.Mol) -> tuple[list[list[int]], list[int]]:
    """Stereocentres with neighbours by canonical rank, and the sign of their signed volume."""
    ranks = list(Chem.CanonicalRankAtoms(mol, breakTies=True))
    centres, signs = [], []
    for atom in mol.GetAtoms():
        neighbours = [bond.GetOtherAtomIdx(atom.GetIdx()) for bond in atom.GetBonds()]
        if atom.GetChiralTag() not in _CHIRAL or len(neighbours) not in (3, 4):
            continue
        ordered = sorted(neighbours, key=ranks.__getitem__)
        parity = _permutation_parity([neighbours.index(n) for n in ordered])
        centres.append([atom.GetIdx(), *ordered, *[atom.GetIdx()] * (4 - len(ordered))])
        # RDKit's CCW: seen from the first neighbour, the others turn counter-clockwise. A tag on three
        # neighbours counts the lone pair last, so the centre may stand in for it.
        signs.append(_CHIRAL[atom.GetChiralTag()] * parity)
    return centres, signs


def _permutation_parity(permutation: list[int]) -> int:
    inversions = sum(a > b for i, a in enumerate(permutation) for b in permutation[i + 1 :])
    return -1 if inversions % 2 else 1


def _double_bonds(mol: Chem.Mol) -> tuple[list[list[int]], list[int]]:
    quadruples, signs = [], []
    for bond in mol.GetBonds():
        stereo = bond.GetStereo()
        if stereo in _CIS or stereo in _TRANS:
            first, last = bond.GetStereoAtoms()
            quadruples.append([first, bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), last])
            signs.append(1 if stereo in _CIS else -1)
    return quadruples, signs
