"""How far the verdict and the expected error of a registration can be trusted.

    python -m trust fit       on the seeds for tuning; writes the model of the expected error into the library
    python -m trust report    on other seeds; writes OUTPUT/trust.md and OUTPUT/expected_error.png

Each run is kept in OUTPUT/trust and not made again; after a change of the registration remove them.
"""
