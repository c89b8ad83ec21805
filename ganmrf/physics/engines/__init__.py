"""How signals are computed: the fast forms of the scan behind `ganmrf.physics.simulate`."""
