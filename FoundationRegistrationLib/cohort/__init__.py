"""Many pairs: a table in; out a folder and a record of each pair, and a page over all of them. No torch."""
