# What Slicer includes here packs the extension; nothing of it is needed to check the lists of files.
