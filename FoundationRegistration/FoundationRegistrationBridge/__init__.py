"""Between MRML nodes of 3D Slicer and the engine `FoundationRegistrationLib`; no widgets, and never torch.

Points and transforms here are RAS mm, as everywhere in MRML; storage nodes turn files (LPS) into them. The
registration runs in a separate process; only `RegistrationJob.wait` waits for it.
"""
