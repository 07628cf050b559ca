"""Options that several commands share, and which option sets which setting."""

from typing import Annotated, Final

import typer

#: Option of each setting whose name differs from it. Errors of the package name settings; the command line names
#: options.
_OPTIONS: Final = {
    "n": "-n",
    "candidates_per_conformer": "--pool",
    "constraints": "--core and --torsion",
    "constraints.core": "--core",
    "constraints.torsions": "--torsion",
    "max_samples": "--check-samples",
    "set": "--set",
}

Jobs = Annotated[int, typer.Option("--jobs", "-j", help="Worker processes; 0 for all cores.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of all random numbers.")]
Shard = Annotated[str | None, typer.Option("--shard", help="I/N: every N-th molecule, beginning with the I-th.")]
MaxFailures = Annotated[
    int, typer.Option("--max-failures", min=0, help="Number of failed inputs up to which the exit code is 0.")
]
Join = Annotated[
    bool, typer.Option("--join", help="Share the output folder with other runs that join; the last one completes it.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Read and check the input, print counts, and stop.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def option_of(setting: str) -> str:
    """The option that sets a setting."""
    return _OPTIONS.get(setting, f"--{setting.replace('_', '-')}")
