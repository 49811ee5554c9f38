"""The ways in which data sets of images are stored, a module each; `records.SOURCES` lists them."""
