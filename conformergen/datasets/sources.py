"""The sources of a data set: which molecules they contain, and to which split each belongs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from conformergen.datasets.pairing import PairingSettings
from conformergen.datasets.splits import make_splitter
from conformergen.errors import InputError
from conformergen.io.formats import READERS, RawEnsemble, detect_format
from conformergen.records import Molecule

#: Split that leaves each molecule of a shard in its part.
_KEEP: Final = "keep"


@dataclass(frozen=True, kw_only=True)
class PreprocessSettings:
    """What the shards contain.

    Attributes:
        format: Reader, or ``auto``.
        split: ``random``, ``scaffold``, ``train`` (everything), a split file, or ``keep`` (the split of shards).
        max_confs: Number of the lowest conformers that are kept of each molecule.
        starts: Start structures paired with the references; None leaves them out.
        seed: Seed of the start structures.
        molecules_per_shard: Source molecules in one unit of work.
        exclude_names: Shell patterns of names to leave out, for example ``geomdrugs_rot*``.
        exclude_smiles: Lists of molecules to leave out (.smi or .csv), compared by the connectivity block of the
            InChIKey, so that stereoisomers of a test molecule are left out too.
    """

    format: str = "auto"
    split: str = "random"
    max_confs: int = 30
    starts: PairingSettings | None = field(default_factory=PairingSettings)
    seed: int = 0
    molecules_per_shard: int = 2000
    exclude_names: tuple[str, ...] = ()
    exclude_smiles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.format != "auto" and self.format not in READERS:
            raise InputError(f"{self.format!r} is not one of auto, {', '.join(READERS)}", setting="format")
        for name in ("max_confs", "molecules_per_shard"):
            if getattr(self, name) < 1:
                raise InputError("must be at least 1", setting=name)


class Sources:
    """The molecules of all sources, and the split of each.

    Raises:
        InputError: For an unknown format, an unusable split file, or ``keep`` for a source without splits.
    """

    def __init__(self, sources: Sequence[Path], settings: PreprocessSettings) -> None:
        self.paths = sources
        self._formats = [detect_format(s) if settings.format == "auto" else settings.format for s in sources]
        if settings.split == _KEEP and set(self._formats) != {"shards"}:
            raise InputError("keep is for shards, which know their split", setting="split")
        self._splitter = None if settings.split == _KEEP else make_splitter(settings.split)

    def read(self) -> Iterator[RawEnsemble]:
        """Yield all molecules in order."""
        for source, name in zip(self.paths, self._formats, strict=True):
            yield from READERS[name](source)

    def split(self, molecule: Molecule, raw: RawEnsemble) -> str:
        """Part of a molecule."""
        return raw.split if self._splitter is None else self._splitter(molecule, raw.position)
