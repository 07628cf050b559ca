"""Our own shard folders, to mix and re-split sets."""

from collections.abc import Iterator
from pathlib import Path

from conformergen.chem import mol_with_conformers
from conformergen.datasets.readers.interface import RawEnsemble
from conformergen.datasets.shards import read_entries, read_shard


def read(source: Path) -> Iterator[RawEnsemble]:
    """Yield the ensembles of a folder with a manifest, or of one ``.h5`` file."""
    one = source.suffix == ".h5"
    entries = read_shard(source) if one else read_entries(source.parent if source.is_file() else source)
    for position, entry in enumerate(entries):
        conformers, molecule = entry.conformers, entry.conformers.molecule
        mols = [mol_with_conformers(molecule, p[None]) for p in conformers.positions]
        yield RawEnsemble(
            smiles=molecule.smiles,
            name=molecule.name,
            conformers=mols,
            energies=None if conformers.energies is None else conformers.energies.tolist(),
            weights=None if conformers.weights is None else conformers.weights.tolist(),
            energy_method=conformers.energy_method,
            position=position,
            split=entry.split,
        )
