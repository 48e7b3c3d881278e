"""A folder for nnU-Net's search: it imports every module here and looks for a class by name."""
