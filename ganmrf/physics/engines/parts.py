"""Arithmetic on states as lists of their parts: one real part, or a real and an imaginary one."""


def cut(state, orders):
    """Some orders of a state."""
    return [part[orders] for part in state]


def rotated(state, turn):
    """A state times a complex number of magnitude 1, its cosine and sine; a real one as it is."""
    if not turn:
        return state
    (cos, sin), (x, y) = turn, state
    return [cos * x - sin * y, cos * y + sin * x]


def times_i(state):
    """A complex state times i."""
    return [-state[1], state[0]]


def added(state, factor, other):
    """A state, and a real factor times another one."""
    return [a + factor * b for a, b in zip(state, other, strict=True)]


def conjugate(state):
    """The complex conjugate of a state, or of a factor in parts."""
    return (*state[:1], *(-part for part in state[1:]))


def summed(state, other):
    """The sum of two states."""
    return [a + b for a, b in zip(state, other, strict=True)]
