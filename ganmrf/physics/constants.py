"""Constants of nature."""

GYROMAGNETIC_RATIO = 42.576e6  # of 1H, Hz/T, as Pulseq has it
