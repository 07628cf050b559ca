"""Units and physical constants (CODATA 2018)."""

from typing import Final

#: kcal/mol in one hartree.
HARTREE_TO_KCAL: Final = 627.5094740631
#: Å in one bohr.
BOHR_TO_ANGSTROM: Final = 0.529177210903
#: Gas constant, kcal/mol/K.
GAS_CONSTANT: Final = 0.0019872042586
#: Temperature of GEOM's Boltzmann weights, K.
ROOM_TEMPERATURE: Final = 298.15
#: kcal/mol in one electronvolt.
EV_TO_KCAL: Final = 23.060547830619
#: Electron charge times bohr, in debye.
AU_TO_DEBYE: Final = 2.5417464739
