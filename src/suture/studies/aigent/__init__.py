"""AIGENT (Khan et al.): Tables I to III."""
