"""Many pairs: a table in, a folder and a record of each pair out, resumable. Imports neither torch nor SimpleITK."""
