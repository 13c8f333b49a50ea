"""Models as files: `pretrained` saves and loads them, `load` finds them by name, `keymap` reads foreign ones."""
