"""Broken and hostile files, thousands of them, read where they can do no harm: `python -m tests.fuzzing`.

`seeds` makes sound files, `mutants` breaks them, `graphs` joins their parts to other functions, `hostile` makes files
that want to run code, `readers` are the commands that read them, and `supervision` runs those where they can neither
hang nor take the machine's memory unnoticed. A file must be read, or refused in one line, and a verdict must be that
of what the file answers to Keras; whatever else happens is a failure.
"""
