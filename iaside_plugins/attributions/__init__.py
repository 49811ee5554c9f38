"""Other attribution methods, band by band."""
