"""DefEnSyn (Yuviler & Drachsler-Cohen): Tables 2 to 6, Figures 2, 3 and 6 to 8."""
