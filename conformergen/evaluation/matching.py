"""Which generated ensemble belongs to which reference molecule."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rdkit import Chem

from conformergen.chem import perceive
from conformergen.errors import InputError
from conformergen.evaluation.scoring import ScoringTask
from conformergen.io.formats import RawEnsemble, read_ensembles

#: SDF properties that say how a sample was made.
_PROVENANCE_FIELDS = ("model", "model_digests", "settings", "seed")


def read_both(generated: "str | Path", reference: "str | Path | None") -> tuple[list[RawEnsemble], list[RawEnsemble]]:
    """Samples, and references from their own file or from the file of the samples.

    Raises:
        InputError: For unreadable files or missing references.
    """
    samples = read_ensembles(Path(generated))
    if reference is None:
        references = [replace(r, conformers=r.references) for r in samples if r.references]
        if not references:
            raise InputError(f"{generated} contains samples only", setting="reference")
    else:
        references = [r for r in read_ensembles(Path(reference)) if r.conformers]
        if not references:
            raise InputError(f"{reference}: no reference conformers")
    return samples, references


def provenance_of(samples: Sequence[RawEnsemble]) -> list[str]:
    """What the records say about their origin, each kind once."""
    found = {
        " ".join(mol.GetProp(key) for key in _PROVENANCE_FIELDS if mol.HasProp(key))
        for raw in samples
        for mol in raw.conformers[:1]
    }
    return sorted(found - {""})


def _smiles(raw: RawEnsemble) -> str:
    return raw.smiles or Chem.MolToSmiles(perceive(raw.conformers[0]))


def _keys(raw: RawEnsemble) -> tuple[str, str, str]:
    """Isomeric SMILES, name, and SMILES without stereo."""
    mol = Chem.MolFromSmiles(_smiles(raw))
    if mol is None:
        return "", raw.name, ""
    return Chem.MolToSmiles(mol), raw.name, Chem.MolToSmiles(mol, isomericSmiles=False)


class Matcher:
    """Finds generated ensembles by isomeric SMILES, then by name, then by SMILES without stereo."""

    def __init__(self, generated: Sequence[RawEnsemble]) -> None:
        self._generated = generated
        self._index: tuple[dict[str, list[int]], ...] = ({}, {}, {})
        self._flat: list[str] = []
        self._used: set[int] = set()
        for position, raw in enumerate(generated):
            keys = _keys(raw)
            self._flat.append(keys[2])
            for table, key in zip(self._index, keys, strict=True):
                if key:
                    table.setdefault(key, []).append(position)

    def task(self, reference: RawEnsemble) -> ScoringTask:
        """References of one molecule and the samples that belong to them, which may be none."""
        return ScoringTask(
            name=reference.name,
            smiles=_smiles(reference),
            references=reference.conformers,
            samples=self._samples(reference),
        )

    def _samples(self, reference: RawEnsemble) -> list[Chem.Mol]:
        keys = _keys(reference)
        for table, key in zip(self._index, keys, strict=True):
            found = [i for i in table.get(key, []) if self._flat[i] == keys[2]]
            if found:
                self._used.update(found)
                return [mol for i in found for mol in self._generated[i].conformers]
        return []

    @property
    def n_unused(self) -> int:
        """Generated molecules that no reference has matched so far."""
        return len(self._generated) - len(self._used)
