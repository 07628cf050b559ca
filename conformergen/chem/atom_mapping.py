"""Bring a foreign 3D conformer into a molecule's atom order, or say why it does not belong to it."""

import numpy as np
from jaxtyping import Float32
from rdkit import Chem

from conformergen.chem.molecule import molecule_from_mol, to_mol
from conformergen.errors import MoleculeError
from conformergen.geometry.stereo import stereo_ok
from conformergen.records import Molecule


def conformer_positions(
    molecule: Molecule, conformers: list[Chem.Mol], *, check_stereo: bool = True
) -> list[Float32[np.ndarray, "atom 3"] | str]:
    """Positions of each conformer in ``molecule``'s atom order, or a reason code.

    Args:
        molecule: Species the conformers should belong to.
        conformers: Molecules with explicit hydrogens and one 3D conformer each, in any atom order.
        check_stereo: Refuse conformers whose stereo is not the molecule's.

    Where the bond graph has atoms alike that stereo tells apart, as in meso compounds, the order is one that fits.

    Returns:
        One entry per conformer: positions, ``reacted`` (another bond graph), ``stereo`` or ``nan``.
    """
    full = to_mol(molecule)
    template = _flat(full)
    known: dict[bytes, list[int] | None] = {}
    result: list[Float32[np.ndarray, "atom 3"] | str] = []
    for mol in conformers:
        graph = mol.ToBinary(Chem.PropertyPickleOptions.NoConformers)
        if graph not in known:
            known[graph] = _match(template, mol)
        order = known[graph]
        if order is None:
            result.append("reacted")
            continue
        every = mol.GetConformer().GetPositions().astype(np.float32)
        if not np.isfinite(every).all():
            result.append("nan")
            continue
        fits = bool(stereo_ok(every[order][None], molecule.graph)[0])
        if not fits and (other := _stereo_match(full, mol)) is not None:
            order, fits = other, bool(stereo_ok(every[other][None], molecule.graph)[0])
        result.append(every[order] if fits or not check_stereo else "stereo")
    return result


def resolve_open_stereo(mol: Chem.Mol, conformer: Chem.Mol, name: str = "") -> Molecule:
    """Molecule of ``mol`` with stereo that is left open taken from a 3D conformer.

    Raises:
        MoleculeError: ``reacted`` when the conformer has another bond graph.
    """
    template = Chem.AddHs(mol)
    order = _stereo_match(template, conformer) or _match(_flat(template), conformer)
    if order is None:
        raise MoleculeError("reacted", "the conformer's bond graph differs from the SMILES")
    positioned = Chem.Mol(template)
    geometry = Chem.Conformer(template.GetNumAtoms())
    geometry.SetPositions(np.asarray(conformer.GetConformer().GetPositions()[order], dtype=np.float64))
    positioned.AddConformer(geometry)
    Chem.AssignStereochemistryFrom3D(positioned, replaceExistingTags=False)
    for bond, known in zip(positioned.GetBonds(), template.GetBonds(), strict=True):
        # The hydrogen of an imine changes sides; only who wrote it down means it.
        ends = bond.GetBeginAtom(), bond.GetEndAtom()
        if bond.GetStereo() != known.GetStereo() and any(map(_bare_imine, ends)):
            bond.SetStereo(Chem.BondStereo.STEREONONE)
            for neighbour in (b for end in ends for b in end.GetBonds()):
                neighbour.SetBondDir(Chem.BondDir.NONE)
    source = Chem.MolToSmiles(mol)
    resolved = molecule_from_mol(positioned, name, source_smiles=source)
    return (
        resolved
        if resolved.smiles == source
        else molecule_from_mol(positioned, name, source_smiles=source, stereo="sampled")
    )


def _bare_imine(atom: Chem.Atom) -> bool:
    """A nitrogen with one neighbour beside hydrogens."""
    return atom.GetAtomicNum() == 7 and sum(n.GetAtomicNum() > 1 for n in atom.GetNeighbors()) == 1


def perceive(conformer: Chem.Mol) -> Chem.Mol:
    """Molecule without explicit hydrogens whose stereo is read from a 3D structure; the argument is copied."""
    mol = Chem.Mol(conformer)
    Chem.AssignStereochemistryFrom3D(mol)
    return Chem.RemoveHs(mol)


def _flat(mol: Chem.Mol) -> Chem.Mol:
    flat = Chem.Mol(mol)
    Chem.RemoveStereochemistry(flat)
    return flat


def _stereo_match(template: Chem.Mol, mol: Chem.Mol) -> list[int] | None:
    """As ``_match``, where ``template`` has stereo by that of the conformer of ``mol``."""
    if mol.GetNumAtoms() != template.GetNumAtoms() or mol.GetNumBonds() != template.GetNumBonds():
        return None
    perceived = _flat(mol)
    Chem.AssignStereochemistryFrom3D(perceived)
    return list(perceived.GetSubstructMatch(template, useChirality=True)) or None


def _match(template: Chem.Mol, mol: Chem.Mol) -> list[int] | None:
    """Indices into ``mol`` for each template atom, or None where the bond graphs differ."""
    if mol.GetNumAtoms() != template.GetNumAtoms() or mol.GetNumBonds() != template.GetNumBonds():
        return None
    match = _flat(mol).GetSubstructMatch(template)
    return list(match) if match else None
