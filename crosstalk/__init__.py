"""What the lessons import: data, plots, widgets and the student's own model."""
