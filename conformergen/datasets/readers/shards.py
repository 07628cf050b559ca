"""Our own shard folders, to mix and re-split sets."""

from collections.abc import Iterator
from pathlib import Path

from conformergen.chem import mol_with_conformers
from conformergen.datasets.readers.interface import RawEnsemble
from conformergen.datasets.shards import read_folder, read_shard


def read(source: Path) -> Iterator[RawEnsemble]:
    """Yield the ensembles of a folder with a manifest, or of one ``.h5`` file."""
    if source.suffix == ".h5":
        ensembles = iter([entry.conformers for entry in read_shard(source)])
    else:
        ensembles = read_folder(source.parent if source.is_file() else source)
    for position, conformers in enumerate(ensembles):
        molecule = conformers.molecule
        mols = [mol_with_conformers(molecule, p[None]) for p in conformers.positions]
        yield RawEnsemble(
            smiles=molecule.smiles,
            name=molecule.name,
            conformers=mols,
            energies=None if conformers.energies is None else conformers.energies.tolist(),
            weights=None if conformers.weights is None else conformers.weights.tolist(),
            energy_method=conformers.energy_method,
            position=position,
        )
