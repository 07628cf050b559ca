"""Automorphism groups of labelled graphs as a product: coset representatives times independent blocks.

Colour refinement gives a stable partition; atoms in cells of one stay fixed, and the rest falls into blocks that no
bond and no cell joins, so that the group is their direct product. A block with too many maps is cut by a stabiliser
chain (Sims 1970): one atom is pinned, and one automorphism for each of its images goes into ``outer``. A group of
millions is then a few dozen small arrays.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Final

import numpy as np
from jaxtyping import Int

#: Maps of one block at most; a block with more is cut.
_MAX_MAPS: Final = 24
#: Coset representatives at most; beyond it the group is a part of the whole, and says so.
MAX_OUTER: Final = 4096


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Block:
    """Atoms that move together: under map s, atom ``atoms[i]`` goes to ``maps[s, i]``; the identity is among them."""

    atoms: Int[np.ndarray, " member"]
    maps: Int[np.ndarray, "map member"]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class SymmetryGroup:
    """Every automorphism is ``o[p]`` with ``o`` a row of ``outer`` and ``p`` one map of each block, identity elsewhere.

    Attributes:
        outer: Coset representatives, the identity first.
        blocks: Independent blocks.
        exact: False where ``outer`` was cut, and an RMSD over the group is an upper bound.
    """

    outer: Int[np.ndarray, "coset atom"]
    blocks: tuple[Block, ...]
    exact: bool = True

    @property
    def size(self) -> int:
        """Number of automorphisms."""
        size = len(self.outer)
        for block in self.blocks:
            size *= len(block.maps)
        return size

    def permutations(self) -> Int[np.ndarray, "automorphism atom"]:
        """All automorphisms; for small groups."""
        n = self.outer.shape[1]
        inner = []
        for choice in product(*(block.maps for block in self.blocks)):
            p = np.arange(n)
            for block, images in zip(self.blocks, choice, strict=True):
                p[block.atoms] = images
            inner.append(p)
        return np.concatenate([o[np.array(inner)] for o in self.outer])


def _refine(colours: list[int], neighbours: Sequence[Sequence[tuple[int, int]]]) -> list[int]:
    """Stable colours: atoms of one colour see the same colours by the same bonds."""
    count = len(set(colours))
    while True:
        signatures = [
            (own, tuple(sorted((label, colours[j]) for label, j in around)))
            for own, around in zip(colours, neighbours, strict=True)
        ]
        names: dict[object, int] = {}
        colours = [names.setdefault(s, len(names)) for s in signatures]
        if len(names) == count:
            return colours
        count = len(names)


def _components(colours: list[int], neighbours: Sequence[Sequence[tuple[int, int]]]) -> list[list[int]]:
    """Connected components of the atoms that share a colour, merged where they share one with each other."""
    cells: dict[int, list[int]] = {}
    for atom, colour in enumerate(colours):
        cells.setdefault(colour, []).append(atom)
    free = {atom for cell in cells.values() if len(cell) > 1 for atom in cell}
    found, seen = [], set()
    for start in sorted(free):
        if start in seen:
            continue
        stack, members = [start], []
        seen.add(start)
        while stack:
            atom = stack.pop()
            members.append(atom)
            linked = [j for _, j in neighbours[atom] if j in free] + cells[colours[atom]]
            for other in linked:
                if other not in seen:
                    seen.add(other)
                    stack.append(other)
        found.append(_connected_order(sorted(members), neighbours))
    return found


def _connected_order(members: list[int], neighbours: Sequence[Sequence[tuple[int, int]]]) -> list[int]:
    """Members so that each, where possible, is bonded to one before it: a map fails early."""
    order: list[int] = []
    waiting = dict.fromkeys(members)
    while waiting:
        stack = [next(iter(waiting))]
        while stack:
            atom = stack.pop()
            if atom in waiting:
                del waiting[atom]
                order.append(atom)
                stack.extend(j for _, j in neighbours[atom] if j in waiting)
    return order


def _maps(
    order: list[int],
    colours: list[int],
    bonds: Sequence[dict[int, int]],
    pinned: dict[int, int] | None = None,
) -> Iterator[list[int]]:
    """Images of ``order`` under each automorphism that moves only these atoms, by backtracking."""
    cells: dict[int, list[int]] = {}
    for atom in order:
        cells.setdefault(colours[atom], []).append(atom)
    images: list[int] = []
    used: set[int] = set()
    pins = pinned or {}
    # Bonds of each atom to the atoms before it, and how many: an image must have exactly these.
    earlier = [
        [(k, bonds[atom][order[k]]) for k in range(i) if order[k] in bonds[atom]] for i, atom in enumerate(order)
    ]

    def fits(index: int, image: int) -> bool:
        linked = bonds[image]
        return all(linked.get(images[k], -1) == label for k, label in earlier[index]) and len(earlier[index]) == sum(
            1 for other in images if other in linked
        )

    def search(index: int) -> Iterator[list[int]]:
        if index == len(order):
            yield list(images)
            return
        atom = order[index]
        for image in [pins[atom]] if atom in pins else cells[colours[atom]]:
            if image not in used and fits(index, image):
                images.append(image)
                used.add(image)
                yield from search(index + 1)
                images.pop()
                used.discard(image)

    return search(0)


def factorise(
    labels: Sequence[int], bonds: Sequence[tuple[int, int, int]], *, max_outer: int = MAX_OUTER
) -> SymmetryGroup:
    """Automorphism group of a graph.

    Args:
        labels: Label of each atom; only atoms of one label map to each other.
        bonds: (atom, atom, label), each bond once.
        max_outer: Cap on the coset representatives.
    """
    n = len(labels)
    linked: list[dict[int, int]] = [{} for _ in range(n)]
    for first, second, label in bonds:
        linked[first][second] = linked[second][first] = label
    neighbours = [[(label, j) for j, label in around.items()] for around in linked]
    ranks = {label: rank for rank, label in enumerate(sorted(set(labels)))}
    colours = _refine([ranks[label] for label in labels], neighbours)
    outer = np.arange(n)[None]
    while True:
        blocks, large = _blocks(colours, neighbours, linked)
        if large is None:
            return SymmetryGroup(outer=outer, blocks=blocks)
        cells = [[a for a in large if colours[a] == colour] for colour in sorted({colours[a] for a in large})]
        cell = min(cells, key=len)
        order = _connected_order([cell[0], *(a for a in large if a != cell[0])], neighbours)
        images = []
        for image in cell:
            found = next(_maps(order, colours, linked, {cell[0]: image}), None)
            if found is not None:
                permutation = np.arange(n)
                permutation[order] = found
                images.append(permutation)
        if len(outer) * len(images) > max_outer:
            return SymmetryGroup(outer=outer, blocks=(), exact=False)
        outer = np.concatenate([outer[:, permutation] for permutation in images])
        colours[cell[0]] = max(colours) + 1
        colours = _refine(colours, neighbours)


def _blocks(
    colours: list[int], neighbours: Sequence[Sequence[tuple[int, int]]], linked: Sequence[dict[int, int]]
) -> tuple[tuple[Block, ...], list[int] | None]:
    """Blocks of a stable partition, or the members of the first one with too many maps."""
    blocks = []
    for order in _components(colours, neighbours):
        maps = list(islice(_maps(order, colours, linked), _MAX_MAPS + 1))
        if len(maps) > _MAX_MAPS:
            return (), order
        if len(maps) > 1:
            blocks.append(Block(atoms=np.array(order), maps=np.array(maps)))
    return tuple(blocks), None
