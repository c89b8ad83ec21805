"""Arithmetic on states as lists of their parts: one real part, or a real and an imaginary one."""

import functools


def cut(state, orders):
    """Some orders of a state."""
    return [part[orders] for part in state]


def times(factor, state):
    """A state times a factor, real or in as many parts."""
    if len(factor) == 1:
        return [factor[0] * part for part in state]
    (real, imaginary), (x, y) = factor, state
    return [real * x - imaginary * y, real * y + imaginary * x]


def added(state, factor, other):
    """A state, and a real factor times another one."""
    return [a + factor * b for a, b in zip(state, other, strict=True)]


def conjugate(state):
    """The complex conjugate of a state, or of a factor in parts."""
    return (*state[:1], *(-part for part in state[1:]))


def summed(state, other):
    """The sum of two states."""
    return [a + b for a, b in zip(state, other, strict=True)]


def total(states):
    """The sum of the states that are not None, if there are any."""
    found = [each for each in states if each is not None]
    return functools.reduce(summed, found) if found else None
