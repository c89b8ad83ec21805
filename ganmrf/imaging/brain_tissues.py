"""Tissues of the digital brain: relaxation times and proton densities, and second pools, from the literature."""

from ganmrf.dictionary.pool_defaults import DEFAULTS
from ganmrf.physics.lineshape import super_lorentzian

# Tissue: T1 (s), T2 (s) at 3 T, and proton density (CSF = 1).
TISSUES = {
    # T1, T2: Wansapura et al. 1999, doi:10.1002/(SICI)1522-2586(199904)9:4<531::AID-JMRI4>3.0.CO;2-L.
    # Proton density: water content of Oros-Peusquens et al. 2019, doi:10.3389/fneur.2019.01333.
    "white matter": (0.832, 0.0792, 0.691),
    "grey matter": (1.331, 0.110, 0.837),
    # Values of BrainWeb, at 1.5 T, because they are inside the published dictionaries. Measured values are not: T1
    # 4.3 s at any field (Rooney et al. 2007, doi:10.1002/mrm.21122), T2 0.50 s at 3 T (Piechnik et al. 2009, Magn Reson
    # Med 61:579).
    "CSF": (2.569, 0.329, 1.0),
    # Marrow (L4) and subcutaneous fat of de Bazelaire et al. 2004, doi:10.1148/radiol.2303021331. Compact bone is
    # silent, so that only marrow contributes to the skull; the proton densities of both are assumed.
    "skull": (0.586, 0.049, 0.1),
    "scalp": (0.382, 0.068, 0.95),
}
BRAIN_TISSUES = ("white matter", "grey matter", "CSF")  # without skull and scalp

# Kind of tissue: tissue: what differs from `TISSUES`, SI. Tissues that are not named have an empty second pool.
_POOLS = {
    # In vivo at 3 T: Asslaender et al. 2024, doi:10.1162/imag_a_00177 (all of white matter, and the cortex).
    "semisolid": {
        "white matter": {"t1": 1.84, "t2": 0.0769, "fraction": 0.212, "exchange_rate": 13.6, "t1_b": 0.34},
        "grey matter": {"t1": 2.46, "t2": 0.083, "fraction": 0.098, "exchange_rate": 14.0, "t1_b": 0.42},
    },
    # White matter of Malik et al. 2018, doi:10.1002/mrm.27040: 2 / s leave its larger pool, a rate of 10 / s for both.
    # Grey matter: its part of myelin water is that of Whittall et al. 1997, doi:10.1002/mrm.1910370107; its myelin
    # water is assumed to be that of white matter.
    "exchanging": {
        "white matter": {"t1": 1.0, "t2": 0.1, "fraction": 0.2, "exchange_rate": 10.0, "t1_b": 0.5, "t2_b": 0.02},
        "grey matter": {"fraction": 0.031, "exchange_rate": 10.0, "t1_b": 0.5, "t2_b": 0.02},
    },
}
_T2_SEMISOLID = {"white matter": 12.5e-6, "grey matter": 14.4e-6}  # s, Asslaender et al. 2024


def brain_values(kind: str) -> dict[str, dict[str, float]]:
    """Tissue -> field -> value, SI, of a kind of tissue by the name of its flag; b1, shift and off-resonance left out.

    Of tissue whose second pool is empty, other parameters of this pool are those of grids, and make no difference.
    """
    found = {}
    for name, (t1, t2, _) in TISSUES.items():
        values = {"t1": t1, "t2": t2}
        if kind != "one_pool":
            values |= DEFAULTS[kind] | {"fraction": 0.0} | _POOLS[kind].get(name, {})
        if kind == "semisolid" and name in _T2_SEMISOLID:
            values["lineshape"] = float(super_lorentzian(_T2_SEMISOLID[name]))
        found[name] = values
    return found
