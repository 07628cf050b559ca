"""The result of an evaluation as one record, and its JSON form."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import rdkit

from conformergen.chem import n_rotatable_bonds
from conformergen.errors import InputError
from conformergen.evaluation.checks.interface import CheckTable
from conformergen.evaluation.metrics import METRICS
from conformergen.evaluation.rules import RULES
from conformergen.evaluation.scoring import Score
from conformergen.evaluation.summary import GRID, Row, coverage_curve, molecule_values, summarise
from conformergen.version import __version__

#: Version of the JSON form.
SCHEMA: Final = 3
#: Earlier versions that can be read; they call the number of rotatable bonds ``rotors``.
_READABLE: Final = (2, 3)
#: Thresholds of the main rows by data set, Å: QM9, Drugs, the older split of Drugs.
THRESHOLDS: Final = (0.5, 0.75, 1.25)
#: Threshold of the values of single molecules, Å.
MAIN_THRESHOLD: Final = 0.75


@dataclass(frozen=True, kw_only=True)
class MoleculeRow:
    """Values of one reference molecule.

    Attributes:
        name: Title.
        smiles: Canonical SMILES.
        n_references: References that count.
        n_samples: Samples that count.
        n_rotatable_bonds: By RDKit's strict definition.
        values: Value of each metric at the main threshold; NaN where there is none.
        dropped_references: References left out because of their bond graph.
        stereo_differs: References of another stereoisomer than the SMILES.
        bad_samples: Samples left out because of their bond graph.
        wrong_stereo_samples: Samples of another stereoisomer.
        exact: False where RMSDs are upper bounds.
    """

    name: str
    smiles: str
    n_references: int
    n_samples: int
    n_rotatable_bonds: int
    values: Mapping[str, float]
    dropped_references: int = 0
    stereo_differs: int = 0
    bad_samples: int = 0
    wrong_stereo_samples: int = 0
    exact: bool = True

    def to_json(self) -> dict[str, object]:
        """Plain data; the metrics stand beside the other values."""
        values = asdict(self)
        metrics = values.pop("values")
        return values | metrics


@dataclass(frozen=True, kw_only=True)
class Report:
    """Scores of one set of samples.

    Attributes:
        main_threshold: Threshold of the values of single molecules, Å.
        rows: Summary by rule (``RULES``), threshold (as text, Å) and metric.
        curve: Thresholds in Å, and mean coverage in % at each of them (``threshold``, ``cov_r``, ``cov_p``).
        molecules: One row for each scored molecule.
        unscored: Name, reason code and message of each reference molecule that could not be scored.
        n_unused_generated: Generated molecules that match no reference.
        generated_by: What the samples say about their origin, each kind once.
        checks: Result of each check.
        program: Name and version of the program.
        rdkit_version: Version of RDKit.
    """

    main_threshold: float
    rows: Mapping[str, Mapping[str, Mapping[str, Row]]]
    curve: Mapping[str, Sequence[float]]
    molecules: Sequence[MoleculeRow]
    unscored: Sequence[Mapping[str, str]] = ()
    n_unused_generated: int = 0
    generated_by: Sequence[str] = ()
    checks: Mapping[str, CheckTable] = field(default_factory=dict)
    program: str = f"conformergen {__version__}"
    rdkit_version: str = rdkit.__version__

    @property
    def threshold(self) -> str:
        """Key of the main threshold in ``rows``."""
        return f"{self.main_threshold:g}"

    @property
    def main(self) -> Mapping[str, Row]:
        """Summary of all molecules at the main threshold, by metric."""
        return self.rows["rows"][self.threshold]

    @property
    def n_samples(self) -> int:
        """Samples that count."""
        return sum(m.n_samples for m in self.molecules)

    @property
    def n_references(self) -> int:
        """References that count."""
        return sum(m.n_references for m in self.molecules)

    @property
    def n_failed(self) -> int:
        """Scored molecules without samples."""
        return sum(m.n_samples == 0 for m in self.molecules)

    @property
    def n_upper_bound(self) -> int:
        """Molecules whose RMSDs are upper bounds."""
        return sum(not m.exact for m in self.molecules)

    @property
    def n_wrong_stereo_samples(self) -> int:
        """Samples of another stereoisomer than the SMILES."""
        return sum(m.wrong_stereo_samples for m in self.molecules)

    @property
    def n_short(self) -> int:
        """Molecules with samples, but fewer than 2K."""
        return sum(0 < m.n_samples < _protocol_count(m) for m in self.molecules)

    @property
    def n_long(self) -> int:
        """Molecules with more than 2K samples."""
        return sum(m.n_samples > _protocol_count(m) for m in self.molecules)

    def to_json(self) -> dict[str, Any]:
        """Plain data that JSON can represent; NaN becomes null."""
        counts = [m.n_samples for m in self.molecules]
        return to_jsonable(
            {
                "schema": SCHEMA,
                "program": self.program,
                "rdkit": self.rdkit_version,
                "symmetrised_terminal_groups": True,
                "main_threshold": self.main_threshold,
                "n_requested": len(self.molecules) + len(self.unscored),
                "n_scored": len(self.molecules),
                "n_failed": self.n_failed,
                "n_without_clean_reference": len(self.unscored),
                "n_upper_bound": self.n_upper_bound,
                "n_samples": self.n_samples,
                "samples_per_molecule": {
                    "least": min(counts),
                    "median": float(np.median(counts)),
                    "most": max(counts),
                },
                "n_short": self.n_short,
                "n_long": self.n_long,
                "n_references": self.n_references,
                "n_wrong_stereo_samples": self.n_wrong_stereo_samples,
                "n_unused_generated": self.n_unused_generated,
                "units": {name: metric.unit for name, metric in METRICS.items()},
                **{rule: {t: dict(row) for t, row in rows.items()} for rule, rows in self.rows.items()},
                "curve": dict(self.curve),
                "molecules": [m.to_json() for m in self.molecules],
                "unscored": list(self.unscored),
                "generated_by": list(self.generated_by),
                **({"checks": {name: c.to_json() for name, c in self.checks.items()}} if self.checks else {}),
            }
        )


def _protocol_count(molecule: MoleculeRow) -> int:
    """2K: twice the number of all references, including those that were left out."""
    return 2 * (molecule.n_references + molecule.dropped_references)


def make_report(
    scores: Sequence[Score],
    unscored: Sequence[Mapping[str, str]],
    thresholds: Sequence[float],
    *,
    n_unused_generated: int = 0,
    generated_by: Sequence[str] = (),
    checks: Mapping[str, CheckTable] | None = None,
) -> Report:
    """Report of scores at several thresholds (Å)."""
    main = MAIN_THRESHOLD if MAIN_THRESHOLD in thresholds else thresholds[0]
    values = {name: molecule_values(scores, name, main) for name in METRICS}
    return Report(
        main_threshold=main,
        rows={rule: {f"{t:g}": summarise(scores, t, rule=rule) for t in thresholds} for rule in RULES},
        curve={
            "threshold": GRID.tolist(),
            "cov_r": coverage_curve(scores, "cov_r"),
            "cov_p": coverage_curve(scores, "cov_p"),
        },
        molecules=[
            MoleculeRow(
                name=s.name,
                smiles=s.smiles,
                n_references=s.rmsd.shape[0],
                n_samples=s.rmsd.shape[1],
                n_rotatable_bonds=n_rotatable_bonds(s.smiles),
                values={name: float(values[name][i]) for name in METRICS},
                dropped_references=s.n_dropped_references,
                stereo_differs=int((~s.reference_stereo).sum()),
                bad_samples=s.n_dropped_samples,
                wrong_stereo_samples=int((~s.sample_stereo).sum()),
                exact=s.exact,
            )
            for i, s in enumerate(scores)
        ],
        unscored=unscored,
        n_unused_generated=n_unused_generated,
        generated_by=generated_by,
        checks=checks or {},
    )


def read_report(path: Path) -> Report:
    """Report written by ``evaluate -o``, without its checks.

    Raises:
        InputError: When the file is no report, or of another schema.
    """
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(values, dict) or values.get("schema") not in _READABLE:
        raise InputError(f"{path}: no report of schema {SCHEMA}; write one with evaluate -o")
    try:
        return Report(
            main_threshold=values["main_threshold"],
            rows={
                rule: {t: {m: _row(row) for m, row in rows.items()} for t, rows in values[rule].items()}
                for rule in RULES
            },
            curve=values["curve"],
            molecules=[_molecule_row(m) for m in values["molecules"]],
            unscored=values["unscored"],
            n_unused_generated=values.get("n_unused_generated", 0),
            generated_by=values.get("generated_by", []),
            program=values["program"],
            rdkit_version=values["rdkit"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: damaged report ({error!r})") from error


def _row(values: Mapping[str, float | None]) -> Row:
    numbers = {key: math.nan if value is None else value for key, value in values.items()}
    return Row(**numbers)  # type: ignore[arg-type]


def _molecule_row(values: Mapping[str, Any]) -> MoleculeRow:
    known = {f.name for f in fields(MoleculeRow)}
    kept = {key: value for key, value in values.items() if key in known}
    kept.setdefault("n_rotatable_bonds", values.get("rotors", 0))
    metrics = {name: math.nan if values[name] is None else values[name] for name in METRICS}
    return MoleculeRow(**kept, values=metrics)


def to_jsonable(value: Any) -> Any:
    """Copy that JSON can represent; records become objects, and numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {k: to_jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(v) for v in value]
    if isinstance(value, Row):
        return to_jsonable(asdict(value))
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
