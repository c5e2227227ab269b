"""One file per lesson: what is right or wrong about each exercise, and what to tell people."""
