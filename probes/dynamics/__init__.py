"""How the state moves from iteration to iteration, and what in the Body moves it."""
