"""What a molecule costs on its way from SMILES to SDF."""

from rdkit import Chem
from support import input_records

import conformergen.chem.molecule as molecule
from conformergen.generation.output import generate_to
from conformergen.generation.settings import GenerateSettings

#: Parses of one molecule: of the text of the user, of its canonical SMILES, and of the isomer that was drawn.
MOST_PARSES = 3


def test_molecule_is_parsed_at_most_three_times(tmp_path, monkeypatch):
    parsed = []
    real = Chem.MolFromSmiles

    def counting(text, *arguments, **options):
        parsed.append(text)
        return real(text, *arguments, **options)

    molecule._parsed.cache_clear()
    molecule._with_hydrogens.cache_clear()
    monkeypatch.setattr(Chem, "MolFromSmiles", counting)
    for smiles in ("CC(C)NCC(O)COc1ccccc1", "CCCOC(=O)CCN"):
        parsed.clear()
        settings = GenerateSettings(n=4, refine="mmff94s", rms=0.3)
        generate_to(input_records(smiles), str(tmp_path / "a.sdf"), settings)
        assert 1 <= len(parsed) <= MOST_PARSES, parsed
