"""The build: solutions/ and autograder/exercises/ in, lessons/ and assets/packs/ out."""
