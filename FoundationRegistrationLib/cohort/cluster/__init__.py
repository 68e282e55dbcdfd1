"""A cohort on a cluster: the Snakemake workflow, its parts, and the program that runs it."""
