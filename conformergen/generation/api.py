"""Python functions: a molecule in, a molecule out."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from rdkit import Chem

from conformergen.chem import mol_with_conformers
from conformergen.errors import MoleculeError
from conformergen.generation.settings import GenerateSettings
from conformergen.generation.stream import Pipeline
from conformergen.io.inputs import InputRecord
from conformergen.records import ConformerSet, Failure, Fallback

#: Names of settings in earlier versions, which are still accepted.
_OLD_NAMES: Final = {"pool": "candidates_per_conformer", "seeds": "start"}


class ConformerGenerator:
    """Conformers of many molecules, in the manner of scikit-learn's transformers.

    Args:
        n: Conformers of each molecule; 0 for a number by flexibility.
        settings: Fields of ``GenerateSettings``; ``jobs=0`` uses all cores.

    Raises:
        InputError: For unknown options.

    Attributes:
        failures_: After ``transform``: one record for each molecule without conformers.

    Example:
        >>> import conformergen
        >>> mols = conformergen.ConformerGenerator(n=2).transform(["CCO", "no molecule", "CCN"])
        >>> [mol and mol.GetNumConformers() for mol in mols]
        [2, None, 2]
    """

    def __init__(self, n: int = 20, **settings: Any) -> None:
        # Each input has one result, so the enumeration of isomers has no place here.
        self.settings = GenerateSettings(n=n, **{_OLD_NAMES.get(k, k): v for k, v in settings.items()})
        if self.settings.stereo == "enumerate":
            self.settings = replace(self.settings, stereo="sample")
        self.failures_: list[Failure] = []

    def fit(self, molecules: object = None, targets: object = None) -> "ConformerGenerator":
        """Return the generator; nothing is learnt."""
        del molecules, targets
        return self

    def transform(self, molecules: "Iterable[str | Chem.Mol]") -> list[Chem.Mol | None]:
        """Molecules with explicit hydrogens and conformers, in input order; None where one failed.

        Raises:
            InputError: For an unknown checkpoint or device.
        """
        self.failures_ = []
        records = [_record(i, molecule) for i, molecule in enumerate(molecules)]
        blocks = Pipeline(self.settings).blocks(records, on_failure=self.failures_.append)
        made = iter([_mol(conformers) for block in blocks for conformers in block.conformers])
        failed = {failure.index for failure in self.failures_}
        return [None if i in failed else next(made) for i in range(len(records))]


def generate(molecule: "str | Chem.Mol", n: int = 20, **settings: Any) -> Chem.Mol:
    """Conformers of one molecule.

    Args:
        molecule: SMILES, or an RDKit molecule (its stereo labels count, its conformers do not).
        n: Conformers; 0 for a number by flexibility.
        settings: Fields of ``GenerateSettings``. The usual ones are ``method`` (``model``, ``etkdg``,
            ``etkdg+mmff94s``, ``torsion+mmff94s``, ``gfnff``), ``checkpoint``, ``rounds``, ``seed``,
            ``candidates_per_conformer``, ``ewin``, ``rms``, ``refine`` (``none``, ``mmff94s``, ``uff``, ``gfn-ff``,
            ``gfn2-xtb``), ``constraints`` and ``device``.

    Returns:
        A new molecule with explicit hydrogens and conformers. These have the property ``fallback`` and, where there are
        energies, ``energy_kcal`` and ``boltzmann_weight``.

    Raises:
        MoleculeError: With a reason code when the molecule cannot be processed.
        InputError: For unknown options.

    Example:
        >>> import conformergen
        >>> mol = conformergen.generate("CC(=O)Nc1ccc(O)cc1", n=5)
        >>> mol.GetNumConformers()
        5
    """
    generator = ConformerGenerator(n, **settings)
    mol = generator.transform([molecule])[0]
    if mol is None:
        failure = generator.failures_[0]
        raise MoleculeError(failure.reason, failure.message)
    return mol


def _record(index: int, molecule: "str | Chem.Mol") -> InputRecord:
    if isinstance(molecule, str):
        return InputRecord(index=index, smiles=molecule, name="")
    name = molecule.GetProp("_Name") if molecule.HasProp("_Name") else ""
    return InputRecord(index=index, smiles=Chem.MolToSmiles(Chem.RemoveHs(molecule)), name=name)


def _mol(conformers: ConformerSet) -> Chem.Mol:
    mol = mol_with_conformers(conformers.molecule, conformers.positions)
    mol.SetProp("_Name", conformers.molecule.name)
    for index, conformer in enumerate(mol.GetConformers()):
        if conformers.fallback is not None:
            conformer.SetProp("fallback", Fallback(conformers.fallback[index]).label)
        if conformers.energies is not None:
            conformer.SetDoubleProp("energy_kcal", float(conformers.energies[index]))
        if conformers.weights is not None:
            conformer.SetDoubleProp("boltzmann_weight", float(conformers.weights[index]))
    return mol
