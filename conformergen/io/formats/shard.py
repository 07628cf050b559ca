"""HDF5 shards as a source, to mix and re-split data sets, and as an output of ``generate``."""

from collections.abc import Iterator
from pathlib import Path

from conformergen.chem import mol_with_conformers
from conformergen.io.formats.interface import Provenance, RawEnsemble, WholeFileWriter
from conformergen.io.shards import ShardEntry, read_entries, read_shard, write_shard
from conformergen.records import ConformerSet


def read(source: Path) -> Iterator[RawEnsemble]:
    """Yield the ensembles of a folder with a manifest, or of one ``.h5`` file."""
    single = source.suffix == ".h5"
    entries = read_shard(source) if single else read_entries(source.parent if source.is_file() else source)
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


class ShardWriter(WholeFileWriter):
    """One HDF5 shard."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.entries: list[ShardEntry] = []

    def write(self, conformers: ConformerSet, provenance: Provenance) -> None:
        del provenance
        self.entries.append(ShardEntry(conformers=conformers, split="test"))

    def close(self) -> None:
        if self.entries:
            write_shard(self.path, self.entries)
