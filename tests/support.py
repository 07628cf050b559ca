"""Functions and molecules that several tests share."""

from dataclasses import replace

import numpy as np
import torch
from hypothesis import HealthCheck, settings
from rdkit import Chem
from torch_geometric.data import Data

from conformergen.chem import embed, mol_with_conformers, molecule_from_smiles, rotatable_torsions, to_mol
from conformergen.config import load_config
from conformergen.datasets.collate import collate_graphs, molecule_tables, pad_positions
from conformergen.evaluation.checks import CHECKS, CheckSettings, run_check
from conformergen.evaluation.scoring import ScoringTask, score_molecule
from conformergen.generation.samples import Samples
from conformergen.generation.stream import Pipeline
from conformergen.io.inputs import InputRecord
from conformergen.nn import BACKBONES, NetworkSettings, make_backbone
from conformergen.nn.relaxation import RelaxationSettings
from conformergen.records import ConformerSet
from conformergen.torsion.features import torsion_features
from conformergen.training.trainer import Trainer

CHIRAL_ALKENE = "C[C@H](N)/C=C/C1CCCCC1"

VARIED = ("C", "O", "CC(C)(C)O", "c1ccccc1F", "C[C@H](N)C(=O)O", "F/C=C/Cl", "OC(=O)C(F)(F)F", "CC(=O)[O-]", "[H][H]")

repeat = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

TINY_NETWORK = NetworkSettings(
    channels=16, odd_channels=8, heads=4, layers=2, n_radial=12, relaxation=RelaxationSettings(mode="none")
)

EXCHANGED = ("C[C@H](N)CC(=O)[O-]", "OC/C=C/c1ccccc1")

#: Inputs of which some fail.
MIXED = ("CCCCO", "C[C@H](N)C(=O)O", "no smiles", "OCc1ccccc1", "F/C=C/CO", "CC(C)CCN", "[Na+].[Cl-]", "CCSCC")

#: Backbones, and the one that turns bonds too.
KINDS = [*BACKBONES, "torsions"]


def input_records(*smiles):
    """One input record for each SMILES, named m0, m1 and so on."""
    return [InputRecord(index=i, smiles=s, name=f"m{i}") for i, s in enumerate(smiles)]


def run_pipeline(settings, records, **options):
    """All conformers that a pipeline makes of some records, and the counts at its end."""
    blocks = list(Pipeline(settings).blocks(records, **options))
    return [conformers for block in blocks for conformers in block.conformers], blocks[-1].summary


def scoring_task(smiles=CHIRAL_ALKENE, *, change=None, n=4):
    molecule = molecule_from_smiles(smiles, smiles)
    refs, gens = (embed(molecule, n, seed=s) for s in (1, 2))
    if change is not None:
        gens = change(gens, molecule)
    sides = [[mol_with_conformers(molecule, p[None]) for p in side] for side in (refs, gens)]
    return ScoringTask(name=smiles, smiles=smiles, references=sides[0], samples=sides[1])


def check(name, task, **settings):
    return run_check(CHECKS[name], [score_molecule(task)], CheckSettings(**settings)).to_json()


def with_made_up_energies(smiles, *, n=8):
    """Conformers whose 'GFN2' energy falls with the distance of the first two heteroatoms: nothing MMFF94s knows."""
    molecule = molecule_from_smiles(smiles)
    positions = embed(molecule, n, seed=3)
    hetero = [i for i, z in enumerate(molecule.graph.atomic_numbers) if z in (7, 8)][:2]
    distance = np.linalg.norm(positions[:, hetero[0]] - positions[:, hetero[1]], axis=-1).astype(np.float64)
    energies = 3.0 * (distance.max() - distance)
    return ConformerSet(molecule=molecule, positions=positions, energies=energies, energy_method="gfn2-xtb")


def positions_of(mol):
    return np.array([c.GetPositions() for c in mol.GetConformers()], dtype=np.float32)


def geodiff_items(exchanged, *, old=False):
    """``samples_all.pkl`` as GeoDiff writes it; ``old``: as PyG before version 2 kept attributes."""
    items = []
    for smiles, (ref, gen) in zip(EXCHANGED, exchanged, strict=True):
        data = Data(
            atom_type=torch.tensor([a.GetAtomicNum() for a in ref.GetAtoms()]),
            edge_index=torch.zeros(2, 0, dtype=torch.long),
            rdmol=Chem.Mol(ref, confId=0),
            smiles=smiles,
            pos_ref=torch.from_numpy(positions_of(ref).reshape(-1, 3)),
            num_pos_ref=torch.tensor([3]),
            pos_gen=torch.from_numpy(positions_of(gen).reshape(-1, 3)),
        )
        if old:
            attributes = dict(data._store._mapping)
            data.__dict__.clear()
            data.__dict__.update(attributes)
        items.append(data)
    return items


def etflow_items(exchanged):
    items = []
    for ref, gen in exchanged:
        mapped = Chem.Mol(ref)
        for atom in mapped.GetAtoms():
            atom.SetAtomMapNum(atom.GetIdx() + 1)
        items.append(
            Data(
                smiles=Chem.MolToSmiles(mapped),
                pos_ref=torch.from_numpy(positions_of(ref)),
                pos_gen=positions_of(gen).astype(np.float64),
            )
        )
    return items


def tiny_trainer(mode="recm", backbone="headwise", **training):
    """Trainer of a very small network."""
    overrides = [f"network.relaxation.mode={mode}", f"network.backbone={backbone}", "network.channels=16"]
    overrides += [f"training.{key}={value}" for key, value in training.items()]
    config = load_config("tiny", None, overrides)
    torch.manual_seed(0)
    return Trainer(make_backbone(config.network), config.diffusion, config.training, relaxation=mode, device="cpu")


def network_and_batch(ensembles, backbone, dtype, mode="none"):
    torch.manual_seed(0)
    settings = NetworkSettings(
        backbone="headwise" if backbone == "torsions" else backbone,
        torsions=backbone == "torsions",
        channels=16,
        odd_channels=8,
        layers=2,
        n_radial=8,
        relaxation=RelaxationSettings(mode=mode, rank=4),
    )
    # e3nn rounds its Wigner coefficients to the default dtype when a product is built.
    torch.set_default_dtype(dtype)
    try:
        network = make_backbone(settings).eval()
    finally:
        torch.set_default_dtype(torch.float32)
    if backbone == "torsions":
        torch.nn.init.normal_(network.torsions.weights[-1].weight)
    graph = collate_graphs([molecule_tables(s.molecule) for s in ensembles])
    graph = replace(graph, handedness=graph.handedness.to(dtype))
    positions = pad_positions([s.positions[0] for s in ensembles], graph.mask.shape[1]).to(dtype)
    return network, graph, positions


def relative_error(a, b):
    return float((a - b).detach().abs().max() / b.detach().abs().max())


def torsion_features_of(smiles, *, n=1):
    """A molecule's graph, its rotatable torsions and what the network reads of some embeddings."""
    molecule = molecule_from_smiles(smiles)
    quartets = rotatable_torsions(to_mol(molecule))
    positions = embed(molecule, n, seed=0).astype(np.float64)
    return molecule.graph, quartets, torsion_features(molecule.graph, quartets, positions), positions


def ranked_candidates(n_final):
    """Candidates of one molecule, of which ``n_final`` may enter the final round."""
    made = with_made_up_energies("COCCNC(=O)CCO", n=12)
    return Samples(
        molecule=made.molecule,
        positions=made.positions,
        mmff_energies=made.energies,
        fallback=np.zeros(len(made), np.uint8),
        n_final=n_final,
    )
