"""The course's data sets: how lessons load them, and how the files in assets/data are made."""
