"""Where student code runs when it is graded: a process that can do nothing but compute and answer."""
