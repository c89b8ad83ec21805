"""How signals are computed: the fast forms of the scan, which `ganmrf.physics.simulate` chooses from."""
