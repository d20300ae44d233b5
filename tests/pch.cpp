// Makes the precompiled header of the tests, which has no other source.
