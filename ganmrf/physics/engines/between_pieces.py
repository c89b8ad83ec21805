"""What happens to magnetisation between two pieces of a scan: changes of the frame of reference, and preparations.

Magnetisation is ``(across, along)``, transverse and longitudinal. Of a phase graph ``across`` is p and q, the parts
of every mobile pool, (states, voxels), and ``along`` the parts of every pool; of isochromats the parts of every mobile
pool, and every pool, (voxels,) or (positions, voxels).
"""

import jax
import jax.numpy as jnp

from ganmrf.physics.between_trains import Effect
from ganmrf.physics.engines.parts import conjugate, times, total
from ganmrf.physics.pools import applied
from ganmrf.physics.sequences.blocks import HalfTurns, Train


def phase_of(train: Train, frame: int):
    """exp(i phase) of the pulse of a frame, in parts."""
    if isinstance(train.rf_phase, HalfTurns):
        return ((-1.0) ** train.rf_phase.counts[frame],)
    phase = train.rf_phase[frame]
    return jnp.cos(phase), jnp.sin(phase)


def turned_by(magnetisation, factor, is_graph: bool):
    """Magnetisation whose transverse part is multiplied by a factor, in parts, of all voxels."""
    across, along = magnetisation
    if not is_graph:
        return tuple(tuple(times(factor, pool)) for pool in across), along
    p, q = across
    rows = [tuple(tuple(times(each, pool)) for pool in pools) for each, pools in ((factor, p), (conjugate(factor), q))]
    return tuple(rows), along


def followed_by(magnetisation, effect: Effect | None, off_resonance, is_graph: bool):
    """Magnetisation after what stands between trains, in voxels of an ``off_resonance``, Hz, or None."""
    if effect is None:
        return magnetisation
    across, along = magnetisation
    matrix = [[_row(entry, along) for entry in row] for row in effect.transverse]
    matrix = [[(entry.real, entry.imag) if jnp.iscomplexobj(entry) else (entry,) for entry in row] for row in matrix]
    turn = None if off_resonance is None else _row(2 * jnp.pi * jnp.ravel(off_resonance) * effect.free, along)

    def mixed(pools, way):
        rows = [[times(way(entry), pool) for entry, pool in zip(row, pools, strict=True)] for row in matrix]
        pools = [total(row) for row in rows]
        return tuple(
            tuple(pool if turn is None else times(way((jnp.cos(turn), jnp.sin(turn))), pool)) for pool in pools
        )

    across = (mixed(across[0], tuple), mixed(across[1], conjugate)) if is_graph else mixed(across, tuple)
    matrix = [[_row(entry, along) for entry in row] for row in effect.longitudinal]
    recovery = [_row(each, along) for each in effect.recovery]
    if not is_graph:
        return across, tuple(kept + own for kept, own in zip(applied(matrix, along), recovery, strict=True))
    kept = [applied(matrix, part) for part in zip(*along, strict=True)]
    kept[0] = tuple(each.at[:1].add(own) for each, own in zip(kept[0], recovery, strict=True))
    return across, tuple(zip(*kept, strict=True))


def _row(value, along):
    """A value of all voxels, or of each, as it stands beside magnetisation."""
    leaf = jax.tree.leaves(along)[0]
    return jnp.reshape(jnp.asarray(value), (*(1,) * (leaf.ndim - 1), -1))
