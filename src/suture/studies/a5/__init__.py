"""A5 (Frosio & Kautz 2023): Tables 2 to 8 on images, Table 9 on letters before a camera."""
