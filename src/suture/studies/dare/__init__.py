"""DARE (Zhang et al. 2022): Tables 2 to 5 and Figure 1."""
