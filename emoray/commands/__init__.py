"""The commands: each file is one, with its flags, its call and its printing."""
