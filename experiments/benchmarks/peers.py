"""Other public simulators of MRF-FISP by extended phase graphs, those that are installed, for comparison alone."""

import importlib.util
import warnings
from collections.abc import Callable

import numpy as np

from ganmrf.physics.sequences.fisp import Fisp
from ganmrf.physics.tissue import Tissue


def peers(sequence: Fisp, n_states: int) -> dict[str, Callable[[Tissue], np.ndarray]]:
    """Simulators by name: each takes flat tissue and gives the magnitude of its signals, (atoms, frames).

    The sequence has an inversion; ``n_states`` orders are kept by those that let one choose.
    """
    makers = {"blochsim": _blochsim, "mrpro": _mrpro, "sycomore": _sycomore}
    return {name: make(sequence, n_states) for name, make in makers.items() if importlib.util.find_spec(name)}


def _blochsim(sequence, n_states):
    from blochsim.simulators import MRFSimulator

    with warnings.catch_warnings(action="ignore"):
        simulator = MRFSimulator(
            flip=np.rad2deg(np.asarray(sequence.flip_angle)),
            TR=1e3 * np.asarray(sequence.repetition_time),
            TI=1e3 * float(sequence.inversion_time),
            states=n_states,
        )

    def simulate(tissue):
        t1, t2 = (np.asarray(time) for time in (tissue.t1, tissue.t2))
        with warnings.catch_warnings(action="ignore"):
            signals = np.asarray(simulator.simulate(T1=1e3 * t1, T2=1e3 * t2))
        # Its signal is that right after the pulse.
        return np.abs(signals) * np.exp(-np.asarray(sequence.echo_time) / t2[:, None])

    return simulate


def _mrpro(sequence, n_states):
    import torch
    from mrpro.operators.models.EPG import EPGSequence, FispBlock, InversionBlock, Parameters

    fields = sequence.flip_angle, sequence.repetition_time, sequence.echo_time
    flip_angle, repetition_time, echo_time = (torch.tensor(np.asarray(field)) for field in fields)
    inversion = InversionBlock(float(sequence.inversion_time))
    pulses = FispBlock(flip_angle, torch.zeros_like(flip_angle), tr=repetition_time, te=echo_time)
    scan = EPGSequence([inversion, pulses])

    def simulate(tissue):
        t1, t2 = (torch.tensor(np.asarray(time)) for time in (tissue.t1, tissue.t2))
        with torch.no_grad():
            signals = scan(Parameters(torch.ones_like(t1), t1, t2), states=n_states)[1]
        return np.abs(torch.stack(list(signals), dim=-1).numpy())

    return simulate


def _sycomore(sequence, n_states):
    import sycomore
    from sycomore.units import rad, s

    del n_states  # it keeps every order that is above its threshold

    def simulate(tissue):
        return np.array([voxel(float(t1), float(t2)) for t1, t2 in zip(tissue.t1, tissue.t2, strict=True)])

    def voxel(t1, t2):
        model = sycomore.epg.Regular(sycomore.Species(t1 * s, t2 * s))
        model.apply_pulse(np.pi * rad)
        model.apply_time_interval(float(sequence.inversion_time) * s)
        signal = []
        pulses = zip(sequence.flip_angle, sequence.repetition_time, sequence.echo_time, strict=True)
        for flip_angle, repetition_time, echo_time in pulses:
            model.apply_pulse(float(flip_angle) * rad)
            model.apply_time_interval(float(echo_time) * s)
            signal.append(abs(model.echo))
            model.apply_time_interval(float(repetition_time - echo_time) * s)
            model.shift()
        return signal

    return simulate
